"""Types, sizes and names that all subpackages share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""(H, W, C) or (H, W) of 8 bits."""

Plane = NDArray[np.float32]
"""(H, W), such as a probability in [0, 1]."""

Ranges = tuple[tuple[float, float], ...]
"""For each band, the stored values that become 0 and 1."""

Progress = Callable[[int, int], None]
"""A function that takes the number of finished items and the total number."""

Say = Callable[[str], None]
"""A function that takes one line of text for the user."""

PRECISIONS = ("float32", "bf16", "int8")
"""From the most exact to the fastest; a network is trained in the first two."""

MINIMUM_SIZE = 64
"""The smallest height and width, in pixels, that networks take."""

IMAGE_BANDS = ("red", "green", "blue")
"""Bands of the images that the readers give."""

IGNORED = 255
"""The value of pixels without a label, beside 0 and 1; losses and scores leave them out."""

BEST_SHIPPED = "ctma-lite"
"""The shipped checkpoint that ctma takes where the user names none."""


def counted(number: int, noun: str) -> str:
    """A number with its noun; the noun is plural unless the number is 1."""
    return f"{number} {noun}{'s' * (number != 1)}"


def name_bands(count: int) -> tuple[str, ...]:
    """Names for a number of bands: red, green and blue for three bands, else numbers."""
    if count == len(IMAGE_BANDS):
        return IMAGE_BANDS
    return tuple(f"band {number}" for number in range(1, count + 1))


def ignore(*_: object) -> None:
    """Does nothing; the default for functions that report progress."""

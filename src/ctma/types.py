"""Types, sizes and names that all rooms share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""(H, W, C) or (H, W) of 8 bits."""

Plane = NDArray[np.float32]
"""(H, W), such as a probability in [0, 1]."""

Progress = Callable[[int, int], None]
"""Told how many of how many are done."""

Say = Callable[[str], None]
"""Told one line for people."""

PRECISIONS = ("float32", "bf16", "int8")
"""From the most exact to the fastest; a network is trained in the first two."""

MINIMUM_SIZE = 64
"""The smallest height and width, in pixels, that networks take."""

IMAGE_BANDS = ("red", "green", "blue")
"""Bands of the images that the readers give."""

BEST_SHIPPED = "ctma-lite"
"""The shipped checkpoint that is taken where none is named."""


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural unless it is one."""
    return f"{number} {noun}{'s' * (number != 1)}"


def name_bands(count: int) -> tuple[str, ...]:
    """Names for bands of which only the number is known: three are taken for colours."""
    if count == len(IMAGE_BANDS):
        return IMAGE_BANDS
    return tuple(f"band {number}" for number in range(1, count + 1))


def ignore(*_: object) -> None:
    """The default for whoever wants to be told nothing."""

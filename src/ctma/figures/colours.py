"""Colours of probabilities, the same in pictures, pages and GIS programs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctma.types import Pixels


def colour_probability(probability: NDArray[Any]) -> Pixels:
    """Red, green, blue (…, 3) of probabilities (…) in [0, 1]: from violet to yellow."""
    from matplotlib import colormaps

    shares = 0.25 + 0.75 * np.asarray(probability)
    return np.asarray(colormaps["inferno"](shares, bytes=True))[..., :3]


def colour_classes(count: int) -> list[tuple[int, int, int]]:
    """Red, green, blue of some classes of probability: from yellow to red."""
    from matplotlib import colormaps

    colours = colormaps["YlOrRd"](np.linspace(0.35, 1, count), bytes=True)[:, :3]
    return [tuple(colour) for colour in colours.tolist()]

"""Positions of windows over an image."""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

LARGEST_WHOLE = 1024 * 1024
"""Largest number of pixels of an image that ctma predicts as a whole, without windows."""

LARGE_WINDOW, LARGE_STRIDE = 512, 256


class Window(NamedTuple):
    """A window of an image: the origin (top left pixel) and the size.

    Attributes:
        top: Row of the origin.
        left: Column of the origin.
        height: Rows.
        width: Columns.
    """

    top: int
    left: int
    height: int
    width: int

    @property
    def area(self) -> tuple[slice, slice]:
        """Rows and columns as slices."""
        rows = slice(self.top, self.top + self.height)
        return rows, slice(self.left, self.left + self.width)


def windows(height: int, width: int, window: int, stride: int) -> list[Window]:
    """Windows that cover an image, row by row; the last windows are moved back inside the image.

    Args:
        height: Rows of the image.
        width: Columns of the image.
        window: Side of a window; in a smaller image the window shrinks to the image.
        stride: Step between origins.
    """
    tops, lefts = (_origins(size, window, stride) for size in (height, width))
    sides = min(window, height), min(window, width)
    return [Window(top, left, *sides) for top, left in product(tops, lefts)]


def find_windows(height: int, width: int, enlargement: float = 1.0) -> tuple[int, int] | None:
    """Side and step of the prediction windows; ``None`` if the network takes the whole image.

    Args:
        height: Rows of the image.
        width: Columns of the image.
        enlargement: Scale factor of the image before the network, along a side.
    """
    if height * width * enlargement**2 <= LARGEST_WHOLE:
        return None
    side, step = (math.ceil(length / enlargement) for length in (LARGE_WINDOW, LARGE_STRIDE))
    return side, step


def _origins(size: int, window: int, stride: int) -> list[int]:
    last = max(size - window, 0)
    return [*range(0, last, stride), last]

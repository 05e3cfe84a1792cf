"""How windows lie over an image."""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

LARGEST_WHOLE = 1024 * 1024
"""Pixels above which an image is predicted in windows."""

LARGE_WINDOW, LARGE_STRIDE = 512, 256


class Window(NamedTuple):
    """A square of an image: its top left pixel and the part of it that counts.

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
    """Windows that cover an image, row by row; the last of each direction is moved back inside.

    Args:
        height: Rows of the image.
        width: Columns of the image.
        window: Side of a window; in a smaller image it shrinks to the image.
        stride: Step between origins.
    """
    tops, lefts = (_origins(size, window, stride) for size in (height, width))
    sides = min(window, height), min(window, width)
    return [Window(top, left, *sides) for top, left in product(tops, lefts)]


def find_windows(height: int, width: int, enlargement: float = 1.0) -> tuple[int, int] | None:
    """Side and step of the windows that an image is predicted in, ``None`` where it is seen whole.

    Args:
        height: Rows of the image.
        width: Columns of the image.
        enlargement: Pixels that the network sees for each pixel, along a side.
    """
    if height * width * enlargement**2 <= LARGEST_WHOLE:
        return None
    side, step = (math.ceil(length / enlargement) for length in (LARGE_WINDOW, LARGE_STRIDE))
    return side, step


def _origins(size: int, window: int, stride: int) -> list[int]:
    last = max(size - window, 0)
    return [*range(0, last, stride), last]

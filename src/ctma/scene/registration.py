"""The shift between the two dates of a scene."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from ctma.scene.source import Source

STEPS = 20
"""Parts of a (decimated) pixel to which the shift is found."""

NOTABLE = 1.0
"""Pixels beyond which a shift deserves a warning."""


class Shift(NamedTuple):
    """How far the date after lies from the date before, in pixels of the grid.

    Attributes:
        columns: To the right.
        rows: Downwards.
    """

    columns: float
    rows: float

    @property
    def length(self) -> float:
        """Pixels."""
        return math.hypot(*self)


def estimate_shift(before: Source, after: Source) -> Shift:
    """Finds the shift by phase correlation of the two dates' edges.

    Edges, because the dates differ in light and season.

    Args:
        before: The date before.
        after: The date after, on the same grid.
    """
    edges = [_edges(*source.overview) for source in (before, after)]
    found, _, _ = phase_cross_correlation(*edges, upsample_factor=STEPS, normalization="phase")
    height, width = edges[0].shape
    rows, columns = -found[0], -found[1]
    return Shift(
        float(columns * before.grid.width / width), float(rows * before.grid.height / height)
    )


def _edges(values: NDArray, valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Gradient magnitude of the mean band, tapered towards the borders."""
    grey = values.mean(axis=0, dtype=np.float32)
    middle = np.median(grey[valid]) if valid.any() else 0.0
    grey = np.where(valid, grey, middle)
    edges = ndimage.gaussian_gradient_magnitude(grey, sigma=1.0)
    edges[~ndimage.binary_erosion(valid, iterations=3)] = 0
    height, width = edges.shape
    taper = np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)
    return (edges - edges.mean()) * taper

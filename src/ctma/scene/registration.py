"""The shift between the two dates of a scene.

ctma correlates the directions of the dates' edges (A. Fitch et al., "Orientation Correlation",
BMVC 2002). Light and season change these directions less than grey values. ctma accepts a shift
only where the shift stands out among all plausible shifts, and most of the scene agrees. Where
only some roofs lean, the rest of the scene does not move with them. Edges of shadows that fall
elsewhere seem to move too, but coarse edges further than fine ones.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from ctma.scene.source import Source

LARGEST = 24
"""Largest plausible shift, in pixels of the (decimated) read."""

BLUR = 1.5
"""Standard deviation, in pixels, of the Gaussian filter for edges."""

COARSE = 3.0
"""Standard deviation of the filter that checks a shift."""

MOST_DRIFT = 2.5
"""Pixels by which the shift of coarse edges may differ. Of 42 shifts planted in real pairs, 40 stay
below; in a pair whose trees throw other shadows, the two differ by 3.6."""

STRONG = 90
"""Percentile of gradients from which an edge counts fully."""

BESIDE = 3
"""Pixels around the best shift that belong to the same peak."""

LEAST_HEIGHT = 5.0
"""Standard deviations by which the best shift must stand above all others."""

LEAST_LEAD = 1.1
"""Ratio by which the best shift must stand above the next best shift."""

WINDOWS = 4
"""Windows along each side of the read that are asked whether they agree."""

LEAST_AGREEMENT = 0.75
"""Least share of the windows whose edges match better with the shift than without. Shifts planted
in real pairs mostly have this share, see benchmarks/registration.py."""

NOTABLE = 6.0
"""Shift, in pixels, above which ctma warns. Registered dates are often off by some pixels where
buildings lean, see benchmarks/registration.py."""


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
        """The length of the shift, in pixels."""
        return math.hypot(*self)


def estimate_shift(before: Source, after: Source) -> Shift | None:
    """Finds the shift between two dates, ``None`` where no shift stands out.

    Args:
        before: The date before.
        after: The date after, on the same grid.
    """
    shift = find_shift(before.overview, after.overview)
    if shift is None:
        return None
    height, width = before.overview[1].shape
    scale = before.grid.width / width, before.grid.height / height
    return Shift(shift.columns * scale[0], shift.rows * scale[1])


def find_shift(
    before: tuple[NDArray[Any], NDArray[np.bool_]], after: tuple[NDArray[Any], NDArray[np.bool_]]
) -> Shift | None:
    """The shift between two images, in their pixels; ``None`` where none stands out.

    Args:
        before: Values (bands, H, W), and where they are valid (H, W).
        after: The same shape.
    """
    reach = min(LARGEST, min(before[1].shape) // 3)
    if reach <= BESIDE:
        return None
    edges = _edges_of(before, after, BLUR)
    near = _correlate(*edges, reach)
    row, column = _summit(near)
    if not _stands_out(near, row, column):
        return None
    lines = near[row - 1 : row + 2, column], near[row, column - 1 : column + 2]
    down, right = (_vertex(*line) if len(line) == 3 else 0.0 for line in lines)
    shift = Shift(column + right - reach, row + down - reach)
    if _agreement(*edges, shift) < LEAST_AGREEMENT:
        return None
    return shift if shift.length <= BESIDE or _stays(shift, before, after, reach) else None


def _correlate(
    before: NDArray[np.complex64], after: NDArray[np.complex64], reach: int
) -> NDArray[Any]:
    """How well the edges match at each shift up to ``reach``: (2 reach + 1, 2 reach + 1)."""
    sides = (np.sqrt(np.hanning(side)).astype(np.float32) for side in before.shape)
    taper = np.outer(*sides)
    first, second = (scipy.fft.fft2(date * taper, overwrite_x=True) for date in (before, after))
    second *= np.conj(first, out=first)
    surface = scipy.fft.fftshift(scipy.fft.ifft2(second, overwrite_x=True).real)
    row, column = (side // 2 for side in surface.shape)
    return surface[row - reach : row + reach + 1, column - reach : column + reach + 1]


def _summit(surface: NDArray[Any]) -> tuple[int, int]:
    row, column = np.unravel_index(np.argmax(surface), surface.shape)
    return int(row), int(column)


def _stays(
    shift: Shift,
    before: tuple[NDArray[Any], NDArray[np.bool_]],
    after: tuple[NDArray[Any], NDArray[np.bool_]],
    reach: int,
) -> bool:
    """Whether coarser edges say the same shift; shadows move further, the coarser they are."""
    row, column = _summit(_correlate(*_edges_of(before, after, COARSE), reach))
    return math.hypot(column - reach - shift.columns, row - reach - shift.rows) <= MOST_DRIFT


def _stands_out(surface: NDArray[Any], row: int, column: int) -> bool:
    others = surface.copy()
    around = (slice(max(0, place - BESIDE), place + BESIDE + 1) for place in (row, column))
    others[tuple(around)] = np.nan
    mean, spread = np.nanmean(others), np.nanstd(others)
    height, next_best = surface[row, column] - mean, np.nanmax(others) - mean
    return bool(height > LEAST_HEIGHT * spread and height > LEAST_LEAD * next_best)


def _agreement(before: NDArray[np.complex64], after: NDArray[np.complex64], shift: Shift) -> float:
    """The share of windows whose edges match better with a shift, to a pixel, than without."""
    columns, rows = round(shift.columns), round(shift.rows)
    if columns == rows == 0:
        return 1.0
    # Pixels at a border that the shift brings in from the other side do not count.
    inner = slice(LARGEST, -LARGEST) if min(before.shape) > 4 * LARGEST else slice(None)
    moved = np.roll(after, (-rows, -columns), (0, 1))
    gain = (np.conj(before) * (moved - after)).real[inner, inner]
    gains = [
        part.sum()
        for strip in np.array_split(gain, WINDOWS)
        for part in np.array_split(strip, WINDOWS, axis=1)
    ]
    told = [one for one in gains if one != 0]
    return sum(one > 0 for one in told) / max(1, len(told))


def _vertex(left: float, middle: float, right: float) -> float:
    """Vertex of the parabola through three values, as an offset from the middle value."""
    bend = left - 2 * middle + right
    return float((left - right) / (2 * bend)) if bend else 0.0


def _edges_of(
    before: tuple[NDArray[Any], NDArray[np.bool_]],
    after: tuple[NDArray[Any], NDArray[np.bool_]],
    blur: float,
) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """The edges of both dates, side by side."""
    with ThreadPoolExecutor(1) as thread:
        other = thread.submit(_edges, *after, blur)
        return _edges(*before, blur), other.result()


def _edges(values: NDArray[Any], valid: NDArray[np.bool_], blur: float) -> NDArray[np.complex64]:
    """Gradient of the mean band, as complex numbers: the edge's direction and strength."""
    grey = values.mean(axis=0, dtype=np.float32)
    if not valid.all():
        grey[~valid] = np.median(grey[valid]) if valid.any() else 0
    across, down = (
        scipy.ndimage.gaussian_filter(grey, blur, order=order) for order in ((0, 1), (1, 0))
    )
    inner = scipy.ndimage.binary_erosion(valid, iterations=math.ceil(2 * blur))
    strength = np.hypot(across, down)
    # Of the valid pixels alone: most of a sparse mosaic has no edge.
    counted = strength[inner]
    strong = float(np.percentile(counted, STRONG)) if counted.size else 0.0
    np.maximum(strength, max(strong, float(np.finfo(np.float32).tiny)), out=strength)
    share = np.divide(inner, strength, out=strength)
    gradient = np.empty(grey.shape, np.complex64)
    for part, slope in ((gradient.real, across), (gradient.imag, down)):
        np.multiply(slope, share, out=part)
    return gradient

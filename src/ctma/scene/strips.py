"""Blends windows into strips of the scene, from top to bottom."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from ctma.scene.blending import Axis, add_window
from ctma.scene.plan import Plan, WindowIndex
from ctma.scene.store import Store
from ctma.scene.windows import WindowPredictor, Windows
from ctma.types import Plane, Progress

STEPS = 250
"""Probabilities are stored as 0 to 250 for 0 to 1."""

NO_DATA = 255

STRIP_ROWS = 512
"""Rows of a finished raster that are read or traced at a time."""


def row_windows(width: int, height: int) -> Iterator[Window]:
    """Windows over the full width of a raster, from top to bottom."""
    for top in range(0, height, STRIP_ROWS):
        yield Window(0, top, width, min(STRIP_ROWS, height - top))


def blend(
    plan: Plan, store: Store, predict: WindowPredictor, on_progress: Progress
) -> Generator[NDArray[np.uint8], None, None]:
    """Strips over the full width, each (2, rows, W): stored probability, and mask.

    Only the rows that windows still reach are in memory. ``blend`` takes finished work from the
    store, and puts newly finished work into the store.

    Args:
        plan: The plan.
        store: Finished work.
        predict: Predicts the windows that are not finished.
        on_progress: Called after every window with the number of finished windows and of all.
    """
    rows, columns = plan.rows, plan.columns
    across = range(len(columns.origins))
    count = len(rows.origins) * len(across)
    needed = _needed_rows(rows, store)
    buffer = _RowBuffer(rows.side, plan.grid.width)
    stored_rows = deque(needed)
    with closing(_windows([(i, j) for i in needed for j in across], store, predict)) as windows:
        for i, top in enumerate(rows.origins):
            buffer.move_to(top)
            for j in across if i in needed else ():
                weights = rows.weights[i], columns.weights[j]
                buffer.add(next(windows), columns.origins[j], weights)
                on_progress(i * len(across) + j + 1, count)
            end = rows.finished(i)
            strip = store.strip(i)
            if strip is None:
                strip = _to_stored(
                    *buffer.rows(rows.finished(i - 1) if i else 0, end), plan.threshold
                )
                store.keep_strip(i, strip)
                while stored_rows and rows.origins[stored_rows[0]] + rows.side <= end:
                    row = stored_rows.popleft()
                    for j in across:
                        store.forget_window((row, j))
            yield strip


def _needed_rows(rows: Axis, store: Store) -> list[int]:
    """Rows of windows that unfinished strips still need."""
    begun = next(row for row in range(len(rows.origins) + 1) if not store.has_strip(row))
    seen_from = rows.finished(begun - 1) if begun else 0
    return [row for row, top in enumerate(rows.origins) if top + rows.side > seen_from]


class _RowBuffer:
    """The rows of a scene that windows still reach; moves downwards with the windows.

    Args:
        height: Rows of a window.
        width: Columns of the scene.
    """

    def __init__(self, height: int, width: int):
        self.top = 0
        self.total = np.zeros((height, width), np.float32)
        self.valid = np.zeros((height, width), bool)

    def move_to(self, top: int) -> None:
        """Moves the buffer so that it begins at a later row of the scene."""
        overlap = len(self.total) - (top - self.top)
        for values in (self.total, self.valid):
            values[:overlap] = values[len(values) - overlap :]
            values[overlap:] = 0
        self.top = top

    def add(self, window: Plane, left: int, weights: tuple[Plane, Plane]) -> None:
        """Adds a window of the rows that the buffer holds."""
        add_window(self.total, self.valid, window, (0, left), weights)

    def rows(self, start: int, end: int) -> tuple[Plane, NDArray[np.bool_]]:
        """Probability and validity of some rows of the scene."""
        rows = slice(start - self.top, end - self.top)
        return self.total[rows], self.valid[rows]


def _windows(indices: list[WindowIndex], store: Store, predict: WindowPredictor) -> Windows:
    """Windows in order: from the store, or predicted and put into the store."""
    missing = [index for index in indices if not store.has_window(index)]
    with closing(predict(missing)) as predicted:
        for index in indices:
            window = store.window(index)
            if window is None:
                window = next(predicted)
                store.keep_window(index, window)
            yield window


def _to_stored(probability: Plane, valid: NDArray[np.bool_], threshold: float) -> NDArray[np.uint8]:
    """Probability in steps, and mask, both 8-bit with nodata; overwrites ``probability``."""
    strip = np.empty((2, *probability.shape), np.uint8)
    np.greater(probability, threshold, out=strip[1].view(bool))
    probability *= STEPS
    np.rint(probability, out=strip[0], casting="unsafe")
    if not valid.all():
        strip[:, ~valid] = NO_DATA
    return strip

"""Windows blended to strips of the scene, from top to bottom."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from ctma.scene.plan import Place, Plan
from ctma.scene.store import Store
from ctma.scene.windows import WindowPredictor, Windows

STEPS = 250
"""Probabilities are stored as 0 to 250 for 0 to 1."""

NO_DATA = 255


def blend(
    plan: Plan,
    store: Store,
    predict: WindowPredictor,
    on_progress: Callable[[int, int], None],
) -> Generator[NDArray[np.uint8], None, None]:
    """Strips over the full width, each (2, rows, W): stored probability, and mask.

    Only the rows that windows still reach are in memory. What the store holds is not done
    again; what is finished here goes into it.

    Args:
        plan: The plan.
        store: Finished work.
        predict: Predicts those windows that are not finished.
        on_progress: Called after every window with how many are done, and of how many.
    """
    rows, columns = plan.rows, plan.columns
    windows_in_row = len(columns.origins)
    count = len(rows.origins) * windows_in_row
    begun = next(row for row in range(len(rows.origins) + 1) if not store.has_strip(row))
    seen_from = rows.finished(begun - 1) if begun else 0
    needed = [row for row, top in enumerate(rows.origins) if top + rows.side > seen_from]
    places = [(i, j) for i in needed for j in range(windows_in_row)]
    total = np.zeros((rows.side, plan.grid.width), np.float32)
    valid = np.zeros(total.shape, bool)
    start = 0
    kept = deque(needed)
    with closing(_windows(places, store, predict)) as windows:
        for i, top in enumerate(rows.origins):
            if i:
                for buffer in (total, valid):
                    _move_up(buffer, top - rows.origins[i - 1])
            if i in needed:
                for j, left in enumerate(columns.origins):
                    window = next(windows)
                    area = slice(left, left + columns.side)
                    good = ~np.isnan(window)
                    valid[:, area] |= good
                    weighted = window * np.outer(rows.weights[i], columns.weights[j])
                    if not good.all():
                        weighted[~good] = 0
                    total[:, area] += weighted
                    on_progress(i * windows_in_row + j + 1, count)
            end = rows.finished(i)
            strip = store.strip(i)
            if strip is None:
                ready = slice(start - top, end - top)
                strip = _stored(total[ready], valid[ready], plan.threshold)
                store.keep_strip(i, strip)
                while kept and rows.origins[kept[0]] + rows.side <= end:
                    row = kept.popleft()
                    for j in range(windows_in_row):
                        store.forget_window((row, j))
            yield strip
            start = end


def _windows(places: list[Place], store: Store, predict: WindowPredictor) -> Windows:
    """Windows in order: from the store, or predicted and put into it."""
    missing = [place for place in places if not store.has_window(place)]
    with closing(predict(missing)) as predicted:
        for place in places:
            window = store.window(place)
            if window is None:
                window = next(predicted)
                store.keep_window(place, window)
            yield window


def _stored(
    probability: NDArray[np.float32], valid: NDArray[np.bool_], threshold: float
) -> NDArray[np.uint8]:
    """Probability in steps and mask, 8-bit, with nodata; overwrites the probability."""
    strip = np.empty((2, *probability.shape), np.uint8)
    np.greater(probability, threshold, out=strip[1].view(bool))
    probability *= STEPS
    np.rint(probability, out=strip[0], casting="unsafe")
    if not valid.all():
        strip[:, ~valid] = NO_DATA
    return strip


def _move_up(buffer: NDArray, rows: int) -> None:
    kept = len(buffer) - rows
    buffer[:kept] = buffer[rows:]
    buffer[kept:] = 0

"""Ranks places by how much their labels would teach the network.

A label teaches most where the network is in doubt: probabilities near a half (D. Lewis, W. Gale, "A
Sequential Algorithm for Training Text Classifiers", 1994). Doubt alone finds the same kind of place
again and again, and no ground that the network takes for unchanged by mistake. So the places are
spread over the scene, and some are places without a change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import shapely
from numpy.typing import NDArray

from ctma.review.changes import LEAST_SIDE, MappedChange, Place, ReviewedMap
from ctma.scene.strips import NO_DATA, STEPS

STILL = "still"
"""The kind of a place that shows no change on the map."""

STILL_EVERY = 4
"""Each fourth place on the list is a still one, while there are some."""

NEIGHBOUR = 0.5
"""Factor on the doubt of a cell for each neighbour that is on the list already."""

LEAST_DATA = 0.5
"""Share of a cell that must have data."""


@dataclass
class _Cell:
    """A square of a place, as large as the page shows around a small change.

    Attributes:
        place: Index of the place.
        row: Row of the cell.
        column: Column of the cell.
        box: Left, top, right, bottom in pixels of the place.
        doubt: Mean doubt of its pixels, in [0, 1].
        mean: Mean probability.
        changes: Changes whose centre lies in the cell.
    """

    place: int
    row: int
    column: int
    box: tuple[float, float, float, float]
    doubt: float
    mean: float
    changes: list[MappedChange]


def rank_by_teaching(reviewed: ReviewedMap) -> list[MappedChange]:
    """Changes and still places, those whose labels teach most first.

    Args:
        reviewed: The map. Still places get the numbers after those of the changes, and the kind
            ``STILL``; their outline is the cell.
    """
    cells = [cell for index in range(len(reviewed.places)) for cell in _cut(reviewed, index)]
    changed = _spread([cell for cell in cells if cell.changes])
    still = _spread([cell for cell in cells if not cell.changes])
    first = max((change.id for change in reviewed.changes), default=0) + 1
    places = [_as_place(cell, first + number) for number, cell in enumerate(still)]
    return _mix(_take_in_turn(changed), places)


def _cut(reviewed: ReviewedMap, index: int) -> list[_Cell]:
    """The cells of a place that have data."""
    place = reviewed.places[index]
    stored = place.read_probability()
    factor = place.width / stored.shape[1]
    side = max(1, round(LEAST_SIDE / factor))
    inside = [change for change in reviewed.changes if change.place == index]
    tops, lefts = (range(0, length, side) for length in stored.shape)
    by_cell = _assign(inside, side * factor, (len(tops) - 1, len(lefts) - 1))
    cells = []
    for row, top in enumerate(tops):
        for column, left in enumerate(lefts):
            part = stored[top : top + side, left : left + side]
            changes = by_cell.get((row, column), [])
            if changes or (part != NO_DATA).mean() >= LEAST_DATA:
                cells.append(_describe(part, index, (row, column), (side * factor, place), changes))
    return cells


def _assign(
    changes: Sequence[MappedChange], side: float, last: tuple[int, int]
) -> dict[tuple[int, int], list[MappedChange]]:
    """Changes by row and column of their cell; a rest beyond the last cell counts to it."""
    found: dict[tuple[int, int], list[MappedChange]] = {}
    for change in changes:
        centre = change.outline.centroid
        row, column = (
            min(int(at // side), end) for at, end in zip((centre.y, centre.x), last, strict=True)
        )
        found.setdefault((row, column), []).append(change)
    return found


def _describe(
    part: NDArray[np.uint8],
    index: int,
    at: tuple[int, int],
    extent: tuple[float, Place],
    changes: list[MappedChange],
) -> _Cell:
    side, place = extent
    seen = part[part != NO_DATA] / STEPS
    row, column = at
    box = (
        column * side, row * side, min((column + 1) * side, place.width),
        min((row + 1) * side, place.height),
    )  # fmt: skip
    doubt = float((4 * seen * (1 - seen)).mean()) if seen.size else 0.0
    return _Cell(index, row, column, box, doubt, float(seen.mean()) if seen.size else 0.0, changes)


def _spread(cells: list[_Cell]) -> list[_Cell]:
    """Cells by falling doubt; cells beside those on the list come later."""
    taken: list[_Cell] = []
    doubt = np.array([cell.doubt for cell in cells])
    at = np.array([(cell.place, cell.row, cell.column) for cell in cells]).reshape(-1, 3)
    left = np.ones(len(cells), bool)
    for _ in cells:
        best = int(np.argmax(np.where(left, doubt, -1)))
        left[best] = False
        taken.append(cells[best])
        apart = np.abs(at - at[best])
        doubt[(apart[:, 0] == 0) & (apart[:, 1:].max(axis=1) <= 1)] *= NEIGHBOUR
    return taken


def _take_in_turn(cells: list[_Cell]) -> list[MappedChange]:
    """The changes of all cells: the first of each cell, then the second of each, and so on."""
    rounds = zip_longest(*(sorted(cell.changes, key=_by_doubt) for cell in cells))
    return [change for one in rounds for change in one if change is not None]


def _by_doubt(change: MappedChange) -> float:
    return abs((change.mean or 0.0) - 0.5)


def _mix(changes: list[MappedChange], still: list[MappedChange]) -> list[MappedChange]:
    """Changes, with a still place after every few of them."""
    mixed: list[MappedChange] = []
    coming = iter(still)
    for number, change in enumerate(changes, start=1):
        mixed.append(change)
        if number % (STILL_EVERY - 1) == 0 and (place := next(coming, None)) is not None:
            mixed.append(place)
    return [*mixed, *coming]


def _as_place(cell: _Cell, number: int) -> MappedChange:
    return MappedChange(cell.place, number, 0.0, cell.mean, shapely.box(*cell.box), STILL)

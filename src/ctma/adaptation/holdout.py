"""Parts a scene into tiles for training and held-out tiles, which share no ground."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctma.data.tiles import Window

MOST_EDGES = 32
"""Largest number of steps along a side at which a held-out rectangle may begin or end."""

MARGIN = 32
"""Pixels around a held-out tile that the network sees and that are not scored."""


Area = tuple[int, int, int, int]
"""First row, row after the last, first column, column after the last."""


class Counts(NamedTuple):
    """Pixels of each cell of a scene, (rows, columns) each.

    Attributes:
        labelled: Pixels with a label.
        changed: Pixels of change.
    """

    labelled: NDArray[np.int64]
    changed: NDArray[np.int64]


@dataclass(frozen=True)
class Tile:
    """One tile of a scene.

    Attributes:
        split: ``"train"`` or ``"val"``.
        row: Row of the tile's cell.
        column: Column of the tile's cell.
        image: The pixels that the network sees.
        own: The pixels whose labels count, within ``image``.
    """

    split: str
    row: int
    column: int
    image: Window
    own: Window


@dataclass(frozen=True)
class Cells:
    """Square cells over a grid; the last cell of a row or column has half to one and a half sides.

    Attributes:
        height: Rows of the grid.
        width: Columns of the grid.
        side: Side of a cell, in pixels.
    """

    height: int
    width: int
    side: int

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns of cells."""
        rows, columns = (
            max(1, (2 * length + self.side) // (2 * self.side))
            for length in (self.height, self.width)
        )
        return rows, columns

    def own(self, row: int, column: int) -> Window:
        """The pixels of a cell."""
        rows, columns = self.shape
        top, left = row * self.side, column * self.side
        bottom = self.height if row == rows - 1 else top + self.side
        right = self.width if column == columns - 1 else left + self.side
        return Window(top, left, bottom - top, right - left)

    def whole(self, row: int, column: int) -> Window:
        """A cell; a short one reaches back to a whole side, where the grid is that large."""
        own = self.own(row, column)
        height = max(own.height, min(self.side, self.height))
        width = max(own.width, min(self.side, self.width))
        top, left = own.top + own.height - height, own.left + own.width - width
        return Window(top, left, height, width)

    def reach(self, area: Area) -> Area:
        """A rectangle of cells with the cells that come nearer than a side to the rectangle."""
        rows, columns = self.shape
        top, bottom, left, right = area
        bottom = _reach(bottom, rows, self.whole(rows - 1, 0).top - self.side * (bottom + 1))
        right = _reach(right, columns, self.whole(0, columns - 1).left - self.side * (right + 1))
        return max(top - 1, 0), bottom, max(left - 1, 0), right


def _reach(last: int, count: int, room: int) -> int:
    """The end of a gap: one cell, and the last one too where it reaches back into the gap."""
    if last >= count - 1:
        return count
    return count if last + 1 == count - 1 and room < 0 else last + 1


def part_tiles(cells: Cells, counts: Counts, share: float) -> Iterator[Tile]:
    """Yields the tiles with labels; none for training comes near a held-out tile.

    Held out is one rectangle of cells. The rectangle has about a share of the labels and of the
    change, and costs the fewest labels in the gap around it. The gap is a whole tile wide.

    Args:
        cells: The cells of the scene.
        counts: Pixels of each cell.
        share: Share of the labels to hold out, in [0, 1].
    """
    held = choose_held_out(cells, counts, share)
    inside = np.zeros(cells.shape, bool)
    if held is not None:
        inside[held[0] : held[1], held[2] : held[3]] = True
    val = [_held_tile(cells, place, held) for place in _places(inside & (counts.labelled > 0))]
    yield from val
    seen = [tile.image for tile in val]
    for row, column in _places(~inside & (counts.labelled > 0)):
        image = cells.whole(row, column)
        if min((distance(image, other) for other in seen), default=cells.side) >= cells.side:
            yield Tile("train", row, column, image, image)


def distance(first: Window, second: Window) -> int:
    """Pixels between two windows, along the axis on which they lie farther apart."""
    down = max(second.top - first.top - first.height, first.top - second.top - second.height)
    right = max(second.left - first.left - first.width, first.left - second.left - second.width)
    return max(down, right)


def choose_held_out(cells: Cells, counts: Counts, share: float) -> Area | None:
    """The held-out rectangle: first row, row after the last, first column, column after the last.

    Returns:
        ``None`` where nothing is held out, or where no rectangle leaves change on both sides.
    """
    rows, columns = counts.labelled.shape
    if share in (0, 1):
        return (0, rows, 0, columns) if share else None
    labelled, changed = (_Sums(plane) for plane in counts)
    best, found = np.inf, None
    for top, bottom in _edges(rows):
        for left, right in _edges(columns):
            inner = top, bottom, left, right
            cost = _cost(labelled, changed, inner, cells.reach(inner), share)
            if cost < best:
                best, found = cost, inner
    return found


class _Sums:
    """Sums over rectangles of a plane."""

    def __init__(self, plane: NDArray[np.int64]):
        self.table = np.pad(plane.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        self.total = int(plane.sum())

    def __call__(self, area: Area) -> int:
        top, bottom, left, right = area
        table = self.table
        return int(
            table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]
        )


def _cost(
    labelled: _Sums,
    changed: _Sums,
    inner: Area,
    outer: Area,
    share: float,
) -> float:
    """How far a rectangle is from the share, and what is lost around; infinite without change."""
    held, left_over = changed(inner), changed.total - changed(outer)
    if not held or not left_over:
        return float(np.inf)
    lost = (labelled(outer) - labelled(inner)) / labelled.total
    lost_change = (changed.total - left_over - held) / changed.total
    off = abs(labelled(inner) / labelled.total - share) + abs(held / changed.total - share)
    return off + (lost + lost_change) / 2


def _edges(count: int) -> list[tuple[int, int]]:
    step = -(-count // MOST_EDGES)
    edges = [*range(0, count, step), count]
    return [(first, last) for index, first in enumerate(edges) for last in edges[index + 1 :]]


def _places(chosen: NDArray[np.bool_]) -> Sequence[tuple[int, int]]:
    return [(int(row), int(column)) for row, column in np.argwhere(chosen)]


def _held_tile(cells: Cells, place: tuple[int, int], held: Area | None) -> Tile:
    """A held-out tile; its margin stays within the held-out rectangle."""
    assert held is not None
    own = cells.own(*place)
    first, last = cells.own(held[0], held[2]), cells.own(held[1] - 1, held[3] - 1)
    top, left, bottom, right = first.top, first.left, last.top + last.height, last.left + last.width
    first_row, first_column = max(own.top - MARGIN, top), max(own.left - MARGIN, left)
    last_row = min(own.top + own.height + MARGIN, bottom)
    last_column = min(own.left + own.width + MARGIN, right)
    image = Window(first_row, first_column, last_row - first_row, last_column - first_column)
    return Tile("val", *place, image, own)

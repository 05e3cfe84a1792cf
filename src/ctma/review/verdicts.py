"""What all reviewers say about each change of a map."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import shapely
from pyproj import Transformer
from shapely.affinity import affine_transform
from shapely.geometry.base import BaseGeometry

from ctma.errors import DataError
from ctma.review.decisions import Decision
from ctma.review.teaching import STILL
from ctma.scene.grid import Grid, metres_a_unit, turn_to_grid

DISPUTED, UNDECIDED = "disputed", "undecided"

SAME_PLACE = 0.5
"""Share of two drawn outlines' common area from which the second one is the first one again."""

Key = tuple[str, int | None]
"""The name of a place, and the number of a change in the place."""


class Judged(NamedTuple):
    """What all reviewers say about one change.

    Attributes:
        verdict: The common verdict, ``disputed``, or ``None`` where nobody decided.
        reviewer: The reviewers' names.
        note: Their notes.
        outline: The first mended outline, as in the file of decisions.
    """

    verdict: str | None = None
    reviewer: str = ""
    note: str = ""
    outline: BaseGeometry | None = None


def judge_changes(
    files: Sequence[Sequence[Decision]], paths: Sequence[Path], changes: Iterable[Key]
) -> list[Judged]:
    """What all reviewers say about each change, in order.

    Raises:
        DataError: If a decision is about a change that the map does not have.
    """
    said: dict[Key, list[Decision]] = {change: [] for change in changes}
    for path, decisions in zip(paths, files, strict=True):
        for decision in decisions:
            if decision.id is None or decision.kind == STILL:
                continue
            if decision.change not in said:
                raise DataError(f"{path}: decides on change {decision.id}, which the map lacks")
            said[decision.change].append(decision)
    return [_join(decisions) for decisions in said.values()]


def _join(decisions: Sequence[Decision]) -> Judged:
    # The second verdict of the same reviewer only tells how far he agrees with himself.
    verdicts = {one.verdict for one in decisions if one.verdict and not one.repeat}
    mended = (decision.outline for decision in decisions if decision.mended)
    return Judged(
        DISPUTED if len(verdicts) > 1 else next(iter(verdicts), None),
        ", ".join(dict.fromkeys(one.reviewer for one in decisions if one.reviewer)),
        "; ".join(decision.note for decision in decisions if decision.note),
        next(mended, None),
    )


def find_drawn(files: Sequence[Sequence[Decision]]) -> list[Decision]:
    """The drawn changes; what a second reviewer drew once more counts once."""
    drawn: list[Decision] = []
    for decision in (decision for decisions in files for decision in decisions):
        others = (one.outline for one in drawn if one.place == decision.place)
        if decision.id is None and not any(_is_again(decision.outline, one) for one in others):
            drawn.append(decision)
    return drawn


def _is_again(outline: BaseGeometry, other: BaseGeometry) -> bool:
    common = outline.intersection(other).area
    return bool(common >= SAME_PLACE * (outline.area + other.area - common))


class OutlineMover:
    """Moves outlines of decisions into the CRS of a grid."""

    def __init__(self, grid: Grid):
        self.grid = grid
        self.crs = None
        self.extent = shapely.box(*grid.bounds)
        if metres_a_unit(grid.crs) is None:
            self.crs = Transformer.from_crs("EPSG:4326", grid.crs.to_wkt(), always_xy=True)

    def __call__(self, outline: BaseGeometry) -> BaseGeometry:
        moved = self._move(outline)
        if not moved.intersects(self.extent):
            raise DataError(
                "the decisions hold an outline outside of the map, from "
                f"{', '.join(f'{value:g}' for value in outline.bounds)}"
            )
        return moved

    def _move(self, outline: BaseGeometry) -> BaseGeometry:
        if self.crs is None:
            return affine_transform(outline, self.grid.transform.to_shapely())
        moved = shapely.transform(outline, self.crs.transform, interleaved=False)
        (turned,) = turn_to_grid([moved], self.grid)
        return turned

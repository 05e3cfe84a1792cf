"""What reviewers of a map labelled: change, and the ground that they saw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import shapely
from shapely.affinity import affine_transform
from shapely.geometry.base import BaseGeometry

from ctma.errors import DataError
from ctma.review.changes import shown_window
from ctma.review.decisions import Decision, read_decisions
from ctma.review.teaching import STILL
from ctma.review.verdicts import Judged, OutlineMover, find_drawn, judge_changes
from ctma.scene.finished import FinishedMap
from ctma.scene.grid import Grid

DECIDED = ("right", "wrong")


class Reviewed(NamedTuple):
    """Labels of a reviewed map, as outlines in the CRS of its grid.

    Attributes:
        changed: Change that is right, as mended, and change that was drawn.
        seen: The windows that the page showed around changes with a verdict, around drawn changes,
            and of places without a change where the reviewer agreed.
        ignored: Changes that are unsure, disputed or without a verdict.
    """

    changed: list[BaseGeometry]
    seen: list[BaseGeometry]
    ignored: list[BaseGeometry]


def read_reviewed(finished: FinishedMap, paths: Sequence[Path]) -> Reviewed:
    """Reads what reviewers decided on a map.

    Args:
        finished: The map.
        paths: The decisions, one file a reviewer.

    Raises:
        DataError: If a file is damaged, belongs to another map, or decides on nothing.
    """
    files = [read_decisions(path, finished.fingerprint) for path in paths]
    to_grid = OutlineMover(finished.grid)
    table = finished.read_changes()
    judged = judge_changes(files, paths, [("", int(number)) for number in table["id"]])
    drawn = [to_grid(decision.outline) for decision in find_drawn(files)]
    outlines = [
        to_grid(one.outline) if one.outline is not None else traced
        for one, traced in zip(judged, table.geometry, strict=True)
    ]
    decided = _with_verdict(judged, outlines, DECIDED)
    still = [*_find_still(files, to_grid, drawn)]
    if not decided and not drawn and not still:
        raise DataError(f"{paths[0]}: no change is called right or wrong, and none is drawn")
    seen = [*(_shown(outline, finished.grid) for outline in (*decided, *drawn)), *still]
    right = _with_verdict(judged, outlines, ("right",))
    pairs = zip(judged, outlines, strict=True)
    return Reviewed(
        [*right, *drawn], seen, [outline for one, outline in pairs if one.verdict not in DECIDED]
    )


def _find_still(
    files: Sequence[Sequence[Decision]], to_grid: OutlineMover, drawn: Sequence[BaseGeometry]
) -> Iterator[BaseGeometry]:
    """Places without a change on the map, where all reviewers agreed, or the change was drawn."""
    verdicts: dict[int | None, set[str | None]] = {}
    outlines: dict[int | None, BaseGeometry] = {}
    said = (one for decisions in files for one in decisions if one.verdict and not one.repeat)
    for decision in (one for one in said if one.kind == STILL):
        verdicts.setdefault(decision.id, set()).add(decision.verdict)
        outlines[decision.id] = to_grid(decision.outline)
    for number, outline in outlines.items():
        mended = verdicts[number] == {"wrong"} and any(map(outline.intersects, drawn))
        if verdicts[number] == {"right"} or mended:
            yield outline


def _with_verdict(
    judged: Sequence[Judged], outlines: Sequence[BaseGeometry], verdicts: Sequence[str]
) -> list[BaseGeometry]:
    pairs = zip(judged, outlines, strict=True)
    return [outline for one, outline in pairs if one.verdict in verdicts]


def _shown(outline: BaseGeometry, grid: Grid) -> BaseGeometry:
    """The window that a page showed around an outline, in the CRS of the grid."""
    pixels = affine_transform(outline, (~grid.transform).to_shapely())
    window, _ = shown_window(pixels.bounds, (grid.width, grid.height))
    box = shapely.box(
        window.col_off, window.row_off, window.col_off + window.width,
        window.row_off + window.height,
    )  # fmt: skip
    return affine_transform(box, grid.transform.to_shapely())

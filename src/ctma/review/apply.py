"""Applies decisions to a map: verdicts beside its changes, and the accepted map of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import rasterio
import shapely
from pyproj import Transformer
from rasterio.transform import Affine
from shapely.affinity import affine_transform
from shapely.geometry.base import BaseGeometry

from ctma.data.images import read_label, save_image
from ctma.errors import DataError, SettingError, warn
from ctma.files import sole_run
from ctma.review.burning import burn, burn_strips
from ctma.review.decisions import Agreement, Decision, compare_reviewers, read_decisions
from ctma.review.images import find_masks, fingerprint_masks, trace_mask
from ctma.scene.finished import FinishedMap, read_finished, read_polygons, write_polygons
from ctma.scene.grid import Grid, metres_a_unit
from ctma.scene.layer import LAYER
from ctma.scene.names import ACCEPTED, is_map
from ctma.scene.polygons import GroundArea
from ctma.scene.strips import NO_DATA
from ctma.scene.styles import style_accepted, style_changes
from ctma.scene.writing import write_mask
from ctma.types import Pixels

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

DISPUTED, UNDECIDED = "disputed", "undecided"

SAME_PLACE = 0.5
"""Share of two drawn outlines' common area from which the second one is the first one again."""

Key = tuple[str, int | None]
"""The name of a place, and the number of a change in the place."""


@dataclass(frozen=True)
class AppliedDecisions:
    """What came of decisions on a map.

    Attributes:
        files: The files that were written.
        counts: Number of changes by verdict: ``right``, ``wrong``, ``unsure``, ``disputed`` where
            reviewers differ, ``undecided``, and ``missed`` for drawn changes.
        mended: Number of changes with a mended outline.
        accepted: Number of changes on the accepted map.
        agreements: How far reviewers agree with each other and with themselves.
    """

    files: list[Path]
    counts: dict[str, int]
    mended: int
    accepted: int
    agreements: list[Agreement]


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


def apply_decisions(
    folder: str | Path, decisions: str | Path | Sequence[str | Path]
) -> AppliedDecisions:
    """Applies the decisions of one reviewer or more to a map.

    The changes of a scene gain the attributes ``verdict``, ``reviewer``, ``note`` and ``outline``
    (the mended outline as text, WKT). ``accepted.gpkg`` and ``accepted.tif`` hold what remains:
    all changes that are not wrong, with mended outlines, and drawn changes. Of image pairs,
    ``accepted/NAME.png`` holds what remains. No other file changes. Decisions that were applied
    before are replaced.

    Args:
        folder: The folder of the map.
        decisions: One file of a review page or more, each of one reviewer.

    Raises:
        DataError: If the folder holds no map, or a file is damaged or belongs to another map.
        OutputError: If a file cannot be written.
        SettingError: If no file is named.
    """
    folder = Path(folder)
    paths = [decisions] if isinstance(decisions, str | Path) else [*decisions]
    if not paths:
        raise SettingError("`decisions`: name one file or more")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    named = [Path(path) for path in paths]
    if len({path.resolve() for path in named}) < len(named):
        raise SettingError("`decisions`: a file is named twice")
    apply = _apply_to_scene if is_map(folder) else _apply_to_images
    return apply(folder, named)


def _apply_to_scene(folder: Path, paths: list[Path]) -> AppliedDecisions:
    finished = read_finished(folder)
    files = [read_decisions(path, finished.fingerprint) for path in paths]
    to_grid = _Mover(finished.grid)
    table = read_polygons(finished.polygons)
    _warn_of_former(finished.polygons, table, files)
    judged = _judge(files, paths, [("", int(number)) for number in table["id"]])
    outlines = [one.outline and to_grid(one.outline) for one in judged]
    table = table.assign(
        verdict=[one.verdict for one in judged],
        reviewer=[one.reviewer for one in judged],
        note=[one.note for one in judged],
        outline=_describe_outlines(outlines, finished.grid, table),
    )
    drawn = _find_drawn(files)
    accepted = _accept(table, outlines, finished.grid)
    accepted = _add_drawn(accepted, drawn, to_grid, finished.grid)
    written = [finished.polygons, *(folder / name for name in ACCEPTED)]
    with sole_run(folder):
        write_polygons(accepted, written[1], "accepted", style_accepted())
        write_mask(written[2], finished.grid, _burn_accepted(finished, [*accepted.geometry]))
        style = style_changes(float(finished.summary["threshold"]))
        write_polygons(table, written[0], LAYER, style, "Polygon")
    agreements = compare_reviewers(files, paths)
    return _result(written, judged, drawn, len(accepted), agreements)


def _apply_to_images(folder: Path, paths: list[Path]) -> AppliedDecisions:
    masks = find_masks(folder)
    files = [read_decisions(path, fingerprint_masks(masks)) for path in paths]
    changes = {
        (mask.name, change.id): change.outline
        for mask in masks
        for change in trace_mask(mask, 0)[0]
    }
    judged = _judge(files, paths, changes)
    drawn = _find_drawn(files)
    kept: dict[str, list[BaseGeometry]] = {mask.name: [] for mask in masks}
    for (place, _), one, outline in zip(changes, judged, changes.values(), strict=True):
        if one.verdict != "wrong":
            kept[place].append(one.outline or outline)
    for decision in drawn:
        if decision.place not in kept:
            raise DataError(f"{folder}: has no pair {decision.place}, on which a change is drawn")
        kept[decision.place].append(decision.outline)
    written = []
    for mask in masks:
        burned = burn(kept[mask.name], Affine.identity(), read_label(mask.mask).shape)
        written.append(folder / "accepted" / f"{mask.name}.png")
        save_image(written[-1], burned * np.uint8(255))
    agreements = compare_reviewers(files, paths)
    return _result(written, judged, drawn, sum(map(len, kept.values())), agreements)


def _judge(
    files: Sequence[Sequence[Decision]], paths: Sequence[Path], changes: Iterable[Key]
) -> list[Judged]:
    """What all reviewers say about each change, in order.

    Raises:
        DataError: If a decision is about a change that the map does not have.
    """
    said: dict[Key, list[Decision]] = {change: [] for change in changes}
    for path, decisions in zip(paths, files, strict=True):
        for decision in decisions:
            if decision.id is None:
                continue
            if decision.change not in said:
                raise DataError(f"{path}: decides on change {decision.id}, which the map lacks")
            said[decision.change].append(decision)
    return [_join(decisions) for decisions in said.values()]


def _warn_of_former(path: Path, table: GeoDataFrame, files: Sequence[Sequence[Decision]]) -> None:
    """Warns where verdicts of other reviewers are replaced."""
    if "reviewer" not in table:
        return
    former = {name for names in table["reviewer"].dropna() for name in names.split(", ") if name}
    now = {decision.reviewer for decisions in files for decision in decisions}
    if others := sorted(former - now):
        warn(
            f"{path}: the verdicts of {', '.join(others)} are replaced; name all files at once to "
            "keep and compare them"
        )


def _describe_outlines(
    outlines: Sequence[BaseGeometry | None], grid: Grid, table: GeoDataFrame
) -> list[str | None]:
    """Mended outlines as text, in the CRS of the file of changes."""
    import geopandas

    moved = geopandas.GeoSeries(outlines, crs=grid.crs.to_wkt()).to_crs(table.crs)
    return [None if outline is None else outline.wkt for outline in moved]


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


def _find_drawn(files: Sequence[Sequence[Decision]]) -> list[Decision]:
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


class _Mover:
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
        if not self.grid.crs.is_geographic:
            return moved
        # Grids near 180 degrees may count on beyond, files of decisions do not.
        west, _, east, _ = moved.bounds
        turn = 360 * round((self.grid.middle_longitude - (west + east) / 2) / 360)
        return shapely.affinity.translate(moved, turn)


def _accept(
    table: GeoDataFrame, outlines: Sequence[BaseGeometry | None], grid: Grid
) -> GeoDataFrame:
    """The changes that are not wrong, in the CRS of the grid, with mended outlines."""
    moved = table.to_crs(grid.crs.to_wkt()).drop(columns="outline")
    mended = [outline or traced for outline, traced in zip(outlines, moved.geometry, strict=True)]
    accepted = moved.set_geometry(mended, crs=moved.crs)
    return accepted[(accepted["verdict"] != "wrong").to_numpy()].reset_index(drop=True)


def _add_drawn(
    accepted: GeoDataFrame, drawn: Sequence[Decision], to_grid: _Mover, grid: Grid
) -> GeoDataFrame:
    import geopandas
    import pandas

    highest = int(accepted["id"].max()) if len(accepted) else 0
    added = geopandas.GeoDataFrame(
        {
            "id": [highest + number for number in range(1, len(drawn) + 1)],
            "verdict": [decision.verdict for decision in drawn],
            "reviewer": [decision.reviewer for decision in drawn],
            "note": [decision.note for decision in drawn],
        },
        geometry=[to_grid(decision.outline) for decision in drawn],
        crs=accepted.crs,
    )
    both = accepted if added.empty else pandas.concat([accepted, added], ignore_index=True)
    area = GroundArea(grid)
    return both.assign(area_m2=[round(area(outline), 2) for outline in both.geometry])


def _burn_accepted(finished: FinishedMap, outlines: list[BaseGeometry]) -> Iterator[Pixels]:
    """Strips of the accepted mask, from top to bottom; without data where the mask has none."""
    with rasterio.open(finished.mask) as raster:
        for window, burned in burn_strips(outlines, finished.grid):
            stored = raster.read(1, window=window)
            yield np.where(stored == NO_DATA, np.uint8(NO_DATA), burned)


def _result(
    written: list[Path],
    judged: Sequence[Judged],
    drawn: Sequence[Decision],
    accepted: int,
    agreements: list[Agreement],
) -> AppliedDecisions:
    counted = Counter(one.verdict or UNDECIDED for one in judged)
    names = ("right", "wrong", "unsure", DISPUTED, UNDECIDED)
    counts = {name: counted[name] for name in names} | {"missed": len(drawn)}
    mended = sum(one.outline is not None for one in judged)
    return AppliedDecisions(written, counts, mended, accepted, agreements)

"""Applies decisions to a map: verdicts beside its changes, and the accepted map of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from rasterio.transform import Affine
from shapely.geometry.base import BaseGeometry

from ctma.data.images import read_label, save_image
from ctma.errors import DataError, warn
from ctma.files import sole_run
from ctma.review.burning import burn, burn_strips
from ctma.review.decisions import (
    Agreement,
    Decision,
    compare_reviewers,
    name_files,
    read_decisions,
)
from ctma.review.images import find_masks, fingerprint_masks, trace_mask
from ctma.review.verdicts import (
    DISPUTED,
    UNDECIDED,
    Judged,
    OutlineMover,
    find_drawn,
    judge_changes,
)
from ctma.scene.cogs import write_mask
from ctma.scene.finished import FinishedMap, read_finished
from ctma.scene.grid import Grid, turn_to_grid
from ctma.scene.layer import LAYER
from ctma.scene.names import ACCEPTED, is_map
from ctma.scene.polygons import GroundArea
from ctma.scene.strips import NO_DATA
from ctma.scene.styles import style_accepted, style_changes
from ctma.scene.tables import read_polygons, write_polygons
from ctma.types import Pixels

if TYPE_CHECKING:
    from geopandas import GeoDataFrame


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
        SettingError: If no file is named, or one twice.
    """
    folder = Path(folder)
    named = name_files(decisions)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    apply = _apply_to_scene if is_map(folder) else _apply_to_images
    return apply(folder, named)


def _apply_to_scene(folder: Path, paths: list[Path]) -> AppliedDecisions:
    finished = read_finished(folder)
    files = [read_decisions(path, finished.fingerprint) for path in paths]
    to_grid = OutlineMover(finished.grid)
    table = read_polygons(finished.polygons)
    _warn_of_former(finished.polygons, table, files)
    judged = judge_changes(files, paths, [("", int(number)) for number in table["id"]])
    outlines = [one.outline and to_grid(one.outline) for one in judged]
    table = table.assign(
        verdict=[one.verdict for one in judged],
        reviewer=[one.reviewer for one in judged],
        note=[one.note for one in judged],
        outline=_describe_outlines(outlines, finished.grid, table),
    )
    drawn = find_drawn(files)
    accepted = _accept(table, outlines, finished.grid)
    highest = max(map(int, table["id"]), default=0)
    accepted = _add_drawn(accepted, drawn, to_grid, finished.grid, highest)
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
    judged = judge_changes(files, paths, changes)
    drawn = find_drawn(files)
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


def _accept(
    table: GeoDataFrame, outlines: Sequence[BaseGeometry | None], grid: Grid
) -> GeoDataFrame:
    """The changes that are not wrong, in the CRS of the grid, with mended outlines."""
    moved = table.to_crs(grid.crs.to_wkt()).drop(columns="outline")
    changes = turn_to_grid(moved.geometry, grid)
    mended = [outline or traced for outline, traced in zip(outlines, changes, strict=True)]
    accepted = moved.set_geometry(mended, crs=moved.crs)
    return accepted[(accepted["verdict"] != "wrong").to_numpy()].reset_index(drop=True)


def _add_drawn(
    accepted: GeoDataFrame,
    drawn: Sequence[Decision],
    to_grid: OutlineMover,
    grid: Grid,
    highest: int,
) -> GeoDataFrame:
    """Adds drawn changes, with numbers that no change of the map has."""
    import geopandas
    import pandas

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
    areas = GroundArea(grid)([*both.geometry])
    return both.assign(area_m2=[round(area, 2) for area in areas])


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

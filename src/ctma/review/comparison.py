"""Compares two maps, or a map with reference polygons."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import rasterio
import shapely
from pyproj import Transformer
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from shapely.affinity import affine_transform
from shapely.geometry.base import BaseGeometry

from ctma.errors import DataError
from ctma.files import fingerprint, refuse_existing, spread_fingerprint, write_json
from ctma.review.burning import burn_strips
from ctma.review.changes import MappedChange, ReviewedMap
from ctma.review.matching import KINDS, Match, match
from ctma.review.page import fill_page
from ctma.review.scenes import place_of
from ctma.scene.finished import DatePictures, FinishedMap, read_finished
from ctma.scene.grid import Grid, turn_to_grid
from ctma.scene.names import is_map
from ctma.scene.polygons import GroundArea
from ctma.scene.rasters import raster_settings
from ctma.scene.strips import NO_DATA, row_windows
from ctma.scene.styles import style_kinds
from ctma.scene.tables import POLYGONS, check_polygons, read_polygons, write_polygons
from ctma.types import Pixels, Progress, ignore

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

DIFFERENCES, PAGE, RECORD = "differences.gpkg", "differences.html", "comparison.json"


@dataclass(frozen=True)
class PixelAgreement:
    """How far two masks agree, over the pixels where both have data.

    Attributes:
        both: Number of pixels that are change in both.
        first_only: Number of pixels that are change in the first alone.
        second_only: Number of pixels that are change in the second alone.
        neither: Number of pixels that are change in neither.
    """

    both: int
    first_only: int
    second_only: int
    neither: int

    @property
    def share(self) -> float:
        """Share of equal pixels, in [0, 1]."""
        total = self.both + self.first_only + self.second_only + self.neither
        return (self.both + self.neither) / total

    @property
    def iou(self) -> float:
        """Pixels that are change in both, by pixels that are change in one or both."""
        either = self.both + self.first_only + self.second_only
        return self.both / either if either else 1.0


@dataclass(frozen=True)
class MapComparison:
    """What became of the changes from the first map to the second.

    Attributes:
        counts: Number of groups of changes of each kind, as in ``differences.gpkg``.
        areas: Their areas in square metres: those of the first map for what is lost, else those
            of the second.
        outside: Number of changes that lie where the other map has no pixels, and do not count.
        pixels: How far the masks agree.
        files: The files that were written.
    """

    counts: dict[str, int]
    areas: dict[str, float]
    outside: int
    pixels: PixelAgreement
    files: list[Path]

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values, by name."""
        ratios = {"share": self.pixels.share, "iou": self.pixels.iou}
        files = {"files": [str(path) for path in self.files]}
        return {**asdict(self), "pixels": {**asdict(self.pixels), **ratios}, **files}


class _Side(NamedTuple):
    """One of the two: a map or reference polygons, in the CRS of the grid."""

    ids: list[int]
    outlines: list[BaseGeometry]
    mask: Path | None


class _Difference(NamedTuple):
    match: Match
    outline: BaseGeometry
    areas: tuple[float, float, float]


def compare_maps(
    first: str | Path,
    second: str | Path,
    output: str | Path,
    *,
    most: int = 500,
    overwrite: bool = False,
    on_progress: Progress = ignore,
) -> MapComparison:
    """Compares two maps, or a map with reference polygons.

    Changes belong together where they share a tenth of the smaller one. Writes
    ``differences.gpkg`` (one polygon a group of changes, with its kind and areas),
    ``differences.html`` (a page to step through all that was not kept), and ``comparison.json``.

    The maps may have different grids and CRS. Pixels are compared on the grid of the first map.

    Args:
        first: The folder of a map, or a file of polygons.
        second: The folder of a map, or a file of polygons; one of both is a map.
        output: The folder to write.
        most: Largest number of differences on the page, the largest ones.
        overwrite: Whether to replace a former comparison there.
        on_progress: Called after every difference with the number of finished ones and of all.

    Raises:
        DataError: If neither is a map, or one cannot be read.
        OutputError: If the folder cannot be written, or holds a former comparison.
    """
    paths, output = (Path(first), Path(second)), Path(output)
    refuse_existing(output / RECORD, overwrite)
    for path in paths:
        if (path / "mask").is_dir():
            raise DataError(f"{path}: holds masks of images; `ctma eval --masks` scores these")
    base = next((path for path in paths if is_map(path)), None)
    if base is None:
        raise DataError(f"{first} and {second}: one of both must be the folder of a map")
    finished = read_finished(base)
    sides = [_read_side(path, finished.grid) for path in paths]
    pixels = _compare_pixels(sides, finished.grid)
    if not any(asdict(pixels).values()):
        raise DataError(f"{first} and {second}: have no pixel in common")
    kept, outside = _leave_out(sides, finished.grid)
    differences = [*_describe(kept, finished.grid)]
    written = [output / name for name in (DIFFERENCES, PAGE, RECORD)]
    comparison = MapComparison(*_sum_up(differences), outside, pixels, written)
    write_polygons(
        _to_table(differences, kept, finished.grid), written[0], "differences", style_kinds()
    )
    with raster_settings(), DatePictures(finished) as pictures:
        reviewed = _review(finished, pictures, differences, paths)
        fill_page(written[1], reviewed, most=most, order="area", on_progress=on_progress)
    write_json(written[2], {"first": str(first), "second": str(second), **comparison.as_dict()})
    return comparison


def _read_side(path: Path, grid: Grid) -> _Side:
    if path.is_dir():
        finished = read_finished(path)
        table = finished.read_changes().to_crs(grid.crs.to_wkt())
        outlines = turn_to_grid(table.geometry, grid)
        return _Side([*map(int, table["id"])], outlines, finished.mask)
    table = read_polygons(path)
    check_polygons(table, path, POLYGONS)
    table = table[~(table.geometry.is_empty | table.geometry.isna())].to_crs(grid.crs.to_wkt())
    outlines = turn_to_grid(table.geometry.make_valid(), grid)
    return _Side([*range(1, len(outlines) + 1)], outlines, None)


def _leave_out(sides: list[_Side], grid: Grid) -> tuple[list[_Side], int]:
    """Both sides without what lies where the other has no data, and the number of these."""
    kept = []
    for side, other in zip(sides, reversed(sides), strict=True):
        inside = _are_seen(side.outlines, other.mask, grid)
        ids = [number for number, seen in zip(side.ids, inside, strict=True) if seen]
        outlines = [outline for outline, seen in zip(side.outlines, inside, strict=True) if seen]
        kept.append(side._replace(ids=ids, outlines=outlines))
    left_out = (len(side.ids) - len(rest.ids) for side, rest in zip(sides, kept, strict=True))
    return kept, sum(left_out)


def _are_seen(outlines: list[BaseGeometry], mask: Path | None, grid: Grid) -> list[bool]:
    """Whether a mask has data at a point of each outline."""
    if mask is None or not outlines:
        return [True] * len(outlines)
    points = shapely.get_coordinates(shapely.point_on_surface(outlines)).T
    with rasterio.open(mask) as raster:
        to_mask = Transformer.from_crs(grid.crs.to_wkt(), raster.crs.to_wkt(), always_xy=True)
        x, y = to_mask.transform(*points)
        return [bool(value[0] != NO_DATA) for value in raster.sample(zip(x, y, strict=True))]


def _describe(sides: list[_Side], grid: Grid) -> Iterator[_Difference]:
    area = GroundArea(grid)
    for found in match(sides[0].outlines, sides[1].outlines):
        parts = [
            shapely.union_all([side.outlines[index] for index in indices])
            for side, indices in zip(sides, (found.first, found.second), strict=True)
        ]
        common, whole = shapely.intersection(*parts), shapely.union(*parts)
        first, second, shared = area([*parts, common])
        yield _Difference(found, whole, (first, second, shared))


def _sum_up(differences: list[_Difference]) -> tuple[dict[str, int], dict[str, float]]:
    counts = dict.fromkeys(KINDS, 0)
    areas = dict.fromkeys(KINDS, 0.0)
    for found, _, (first, second, _) in differences:
        counts[found.kind] += 1
        areas[found.kind] += first if found.kind == "lost" else second
    return counts, {kind: round(area, 2) for kind, area in areas.items()}


def _to_table(differences: list[_Difference], sides: list[_Side], grid: Grid) -> GeoDataFrame:
    import geopandas

    def name(side: _Side, indices: list[int]) -> str:
        return ", ".join(str(side.ids[index]) for index in indices)

    columns = {
        "id": [*range(1, len(differences) + 1)],
        "kind": [one.match.kind for one in differences],
        "first_ids": [name(sides[0], one.match.first) for one in differences],
        "second_ids": [name(sides[1], one.match.second) for one in differences],
    }
    for index, column in enumerate(("first_m2", "second_m2", "common_m2")):
        columns[column] = [round(one.areas[index], 2) for one in differences]
    return geopandas.GeoDataFrame(
        columns, geometry=[one.outline for one in differences], crs=grid.crs.to_wkt()
    )


def _compare_pixels(sides: list[_Side], grid: Grid) -> PixelAgreement:
    counts = np.zeros(9, np.int64)
    with ExitStack() as stack:
        strips = [_read_strips(side, grid, stack) for side in sides]
        for first, second in zip(*strips, strict=True):
            # 0 and 1 are values, 2 stands for no data.
            counts += np.bincount((3 * first + second).ravel(), minlength=9)
    return PixelAgreement(*(int(counts[index]) for index in (4, 3, 1, 0)))


def _read_strips(side: _Side, grid: Grid, stack: ExitStack) -> Iterator[Pixels]:
    """Strips on the grid, from top to bottom: 0, 1, and 2 for no data."""
    if side.mask is None:
        return (burned for _, burned in burn_strips(side.outlines, grid))
    raster = stack.enter_context(rasterio.open(side.mask))
    view = stack.enter_context(
        WarpedVRT(
            raster,
            crs=grid.crs,
            transform=grid.transform,
            width=grid.width,
            height=grid.height,
            resampling=Resampling.nearest,
            nodata=NO_DATA,
        )
    )
    windows = row_windows(grid.width, grid.height)
    return (np.minimum(view.read(1, window=window), np.uint8(2)) for window in windows)


def _review(
    finished: FinishedMap,
    pictures: DatePictures,
    differences: list[_Difference],
    paths: tuple[Path, Path],
) -> ReviewedMap:
    """The differences as a map to look at."""
    to_pixels = (~finished.grid.transform).to_shapely()
    changes = [
        MappedChange(0, number, max(areas), None, affine_transform(outline, to_pixels), found.kind)
        for number, (found, outline, areas) in enumerate(differences, start=1)
        if found.kind != "kept"
    ]
    place = place_of(finished, pictures)
    names = " and ".join(path.name for path in paths)
    marks = (spread_fingerprint(path / "mask.tif" if path.is_dir() else path) for path in paths)
    return ReviewedMap(
        f"differences of {names}", fingerprint(marks), 0.5, "m²", [place], changes, decide=False
    )

"""Reads a finished map from its folder: grid, changes, and both dates as pictures."""

from __future__ import annotations

import json
import math
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from pydantic import BaseModel, PositiveInt, ValidationError
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.transform import Affine
from rasterio.windows import Window

from ctma.data.scaling import Scaling
from ctma.errors import DataError, SceneError, first_line, warn
from ctma.files import fingerprint, spread_fingerprint
from ctma.scene.grid import Grid, turn_to_grid
from ctma.scene.names import RASTERS, SUMMARY
from ctma.scene.plan import Date, to_picture
from ctma.scene.rasters import open_raster, raster_errors
from ctma.scene.source import Source, reduce_shape
from ctma.scene.tables import find_polygons, read_polygons
from ctma.types import Pixels

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

DATES = ("before", "after")

Pictures = tuple[Pixels | None, Pixels | None]
"""Both dates as pictures, (H, W, 3) each; ``None`` for a date whose raster is not at hand."""


@dataclass(frozen=True)
class FinishedMap:
    """The files and the summary of a finished map.

    Attributes:
        folder: The folder that ``predict_scene`` wrote.
        summary: The content of ``summary.json``.
        grid: The map's grid.
        polygons: The file of changes.
    """

    folder: Path
    summary: dict[str, Any]
    grid: Grid
    polygons: Path

    @property
    def probability(self) -> Path:
        """The raster of probability."""
        return self.folder / "probability.tif"

    @property
    def mask(self) -> Path:
        """The raster of the mask."""
        return self.folder / "mask.tif"

    @property
    def fingerprint(self) -> str:
        """A fingerprint of the run and of its mask; verdicts on the map do not alter it."""
        return fingerprint([self.summary["identity"], spread_fingerprint(self.mask)])

    def read_changes(self) -> GeoDataFrame:
        """The polygons in the CRS of the grid, with their attributes.

        Raises:
            DataError: If the file cannot be read.
        """
        changes = read_polygons(self.polygons)
        try:
            changes = changes.to_crs(self.grid.crs.to_wkt())
        except ValueError as error:
            raise DataError(f"{self.polygons}: has no CRS; make the map anew") from error
        changes.geometry = turn_to_grid(changes.geometry, self.grid)
        return changes


def read_finished(folder: str | Path) -> FinishedMap:
    """Reads what a finished run of ``predict_scene`` left in its folder.

    Raises:
        DataError: If the folder does not hold a finished map.
    """
    folder = Path(folder)
    polygons = find_polygons(folder)
    missing = [name for name in (SUMMARY, *RASTERS) if not (folder / name).is_file()]
    if polygons is None:
        missing.append("changes.gpkg")
    if polygons is None or missing:
        raise DataError(f"{folder}: holds no finished map ({', '.join(missing)} missing)")
    summary = _read_summary(folder / SUMMARY)
    return FinishedMap(folder, summary, _read_grid(folder / "mask.tif"), polygons)


class _GridEntry(BaseModel):
    crs: str
    transform: tuple[float, float, float, float, float, float]
    width: PositiveInt
    height: PositiveInt


class _ScalingEntry(BaseModel):
    low: list[float]
    high: list[float]


class _DateEntry(BaseModel):
    path: str
    way: str | None
    fingerprint: str | None
    bands: list[PositiveInt]
    grid: _GridEntry
    scaling: _ScalingEntry


class _Summary(BaseModel):
    """What other commands read of a summary; there is more."""

    identity: str
    threshold: float
    nodata: float | None
    nodata_any: bool
    before: _DateEntry
    after: _DateEntry


def _read_summary(path: Path) -> dict[str, Any]:
    try:
        summary: dict[str, Any] = json.loads(path.read_bytes())
        _Summary.model_validate(summary)
    except ValidationError as error:
        name = ".".join(map(str, error.errors()[0]["loc"]))
        raise DataError(f"{path}: is not the summary of a map ({name})") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: is not the summary of a map ({first_line(error)})") from error
    return summary


def _read_grid(mask: Path) -> Grid:
    try:
        with rasterio.open(mask) as raster:
            return Grid(raster.crs, raster.transform, raster.width, raster.height)
    except RasterioError as error:
        raise DataError(f"{mask}: cannot be read ({first_line(error)})") from error


def frame(
    bounds: tuple[float, ...], grid_size: tuple[int, int], around: float, least: int, most: int
) -> tuple[Window, tuple[int, int]]:
    """The window of a change with its surroundings, and the height and width of its pictures.

    Args:
        bounds: First column, first row, last column, last row of the change.
        grid_size: Columns and rows of the grid.
        around: Columns and rows around the change, as a share of its longer side.
        least: Smallest side of the window, where the grid is that large.
        most: Largest side of the pictures; larger windows are reduced.
    """
    longest = max(bounds[2] - bounds[0], bounds[3] - bounds[1])
    sides = []
    for first, last, length in zip(bounds[:2], bounds[2:], grid_size, strict=True):
        half = max(least / 2, (last - first) / 2 + around * longest)
        middle = (first + last) / 2
        sides.append((max(0, int(middle - half)), min(length, math.ceil(middle + half))))
    (left, right), (top, bottom) = sides
    window = Window(left, top, right - left, bottom - top)
    return window, reduce_shape((window.height, window.width), most)


class DatePictures:
    """Reads windows of both dates of a map as pictures, as the network saw them.

    Warns about a raster that is not at hand, or that was changed since the map was made.

    Args:
        finished: The map.
        before: Where the raster before lies now; by default where it lay.
        after: Where the raster after lies now.
    """

    def __init__(
        self,
        finished: FinishedMap,
        before: str | Path | None = None,
        after: str | Path | None = None,
    ):
        self.finished = finished
        self.summary = finished.summary
        with ExitStack() as stack:
            self.sources = [
                self._open(stack, date, moved)
                for date, moved in zip(DATES, (before, after), strict=True)
            ]
            self.files = stack.pop_all()

    def __enter__(self) -> DatePictures:
        return self

    def __exit__(self, *_: object) -> None:
        self.files.close()

    def read(self, window: Window, shape: tuple[int, int]) -> Pictures:
        """Both dates in a window of the grid, at some height and width; holes are black."""
        first, second = (
            None if source is None else to_picture(*source[0].read(window, shape), source[1])
            for source in self.sources
        )
        return first, second

    def read_whole(self) -> Pictures:
        """Both dates over the whole grid, reduced."""
        first, second = (
            None if source is None else to_picture(*source[0].overview, source[1])
            for source in self.sources
        )
        return first, second

    def _open(
        self, stack: ExitStack, date: str, moved: str | Path | None
    ) -> tuple[Source, Scaling] | None:
        try:
            described = find_date(self.finished, date, moved)
            path = described.path
            raster = stack.enter_context(open_raster(path))
            if max(described.bands) > raster.count:
                raise SceneError(f"{path}: has no band {max(described.bands)}, which the map shows")
            _warn_of_changes(path, self.summary[date])
            holes = self.summary["nodata"], self.summary["nodata_any"]
            source = Source(raster, described.grid, described.bands, *holes)
            return stack.enter_context(source), described.scaling
        except SceneError as error:
            if moved is not None:
                raise
            warn(f"{date}: {error}; the pictures go without, or name where it is as `{date}`")
            return None


def find_date(finished: FinishedMap, date: str, moved: str | Path | None = None) -> Date:
    """How a date of a map is read.

    Args:
        finished: The map.
        date: One of ``DATES``.
        moved: Where the raster lies now; by default where it lay.

    Raises:
        SceneError: If the summary's grid cannot be read.
    """
    entry = finished.summary[date]
    return _describe(str(moved or _find(finished.folder, entry)), entry)


def _find(folder: Path, entry: dict[str, Any]) -> str:
    """Where a raster lies: where it lay, or, if it was moved with the map, by its way from there.

    Args:
        folder: The folder of the map.
        entry: What the summary says of the raster.
    """
    path, way = entry["path"], entry["way"]
    if way is not None and not Path(path).exists() and (folder / way).is_file():
        return str(folder / way)
    return str(path)


def _describe(path: str, entry: dict[str, Any]) -> Date:
    grid = entry["grid"]
    with raster_errors(f"{path}: its grid in the summary cannot be read"):
        crs = CRS.from_user_input(grid["crs"])
    placed = Grid(crs, Affine(*grid["transform"]), grid["width"], grid["height"])
    scaling = Scaling(tuple(entry["scaling"]["low"]), tuple(entry["scaling"]["high"]))
    return Date(path, tuple(entry["bands"]), placed, scaling)


def _warn_of_changes(path: str, entry: dict[str, Any]) -> None:
    known = entry["fingerprint"] and Path(path).is_file()
    if known and spread_fingerprint(path) != entry["fingerprint"]:
        warn(f"{path}: is not the raster that the map was made from; pictures may not fit")


def read_reduced(raster: Path, side: int, resampling: Resampling = Resampling.nearest) -> Pixels:
    """The stored values of a raster's first band, reduced to at most ``side`` pixels.

    Raises:
        DataError: If the raster cannot be read.
    """
    try:
        with rasterio.open(raster) as opened:
            shape = reduce_shape(opened.shape, side)
            reduced = opened.read(1, out_shape=shape, resampling=resampling)
            values: Pixels = np.asarray(reduced, np.uint8)
            return values
    except RasterioError as error:
        raise DataError(f"{raster}: cannot be read ({first_line(error)})") from error

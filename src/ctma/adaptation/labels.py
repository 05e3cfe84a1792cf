"""Labels of a scene: from polygons, from a raster, or from the decisions of a reviewer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import rasterio.windows
import shapely
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window
from shapely.geometry.base import BaseGeometry

from ctma.errors import DataError
from ctma.review.burning import burn
from ctma.scene.grid import Grid, turn_to_grid
from ctma.scene.rasters import open_raster, raster_errors
from ctma.scene.strips import row_windows
from ctma.scene.tables import POLYGONS, check_polygons, read_polygons
from ctma.types import IGNORED, Pixels, counted

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

UNLABELLED = -12345.0
"""Stands for pixels without a label while a raster is read; no raster of labels holds it."""

RASTER_SUFFIXES = {".tif", ".tiff", ".vrt"}
"""Suffixes of labels that are rasters; all other labels are polygons."""


class Labels(Protocol):
    """The labels of a scene."""

    def read(self, window: Window) -> Pixels:
        """The labels of a window of the grid, (H, W): 0, 1 or ``IGNORED``."""


class Tidied(NamedTuple):
    """What became of the polygons of a file.

    Attributes:
        read: Number of polygons in the file, after ``where``.
        repaired: Number of polygons that crossed themselves, and were repaired.
        parted: Number of polygons of several parts.
        empty: Number of features without area.
        outside: Number of polygons that lie outside the scene.
    """

    read: int = 0
    repaired: int = 0
    parted: int = 0
    empty: int = 0
    outside: int = 0

    def __str__(self) -> str:
        """All counts that are not zero, as a phrase."""
        said = {
            "repaired": self.repaired, "of several parts": self.parted,
            "without area": self.empty, "outside the scene": self.outside,
        }  # fmt: skip
        notes = [f"{count} {name}" for name, count in said.items() if count]
        return counted(self.read, "polygon") + (f", of which {', '.join(notes)}" if notes else "")


@dataclass(frozen=True)
class PolygonLabels:
    """Labels from outlines.

    Attributes:
        grid: The grid.
        changed: Outlines of change, in the CRS of the grid.
        seen: Outlines of what was labelled; ``None`` where the whole scene was.
        ignored: Outlines without a label.
        all_touched: Whether a pixel counts that an outline of change touches; else its centre
            must lie inside.
    """

    grid: Grid
    changed: Sequence[BaseGeometry]
    seen: Sequence[BaseGeometry] | None = None
    ignored: Sequence[BaseGeometry] = ()
    all_touched: bool = False
    _trees: dict[str, shapely.STRtree] = field(default_factory=dict, repr=False)

    def read(self, window: Window) -> Pixels:
        """The labels of a window; change counts also within an ignored outline."""
        changed = self._burn("changed", window, all_touched=self.all_touched)
        labelled = changed | (1 - self._burn("ignored", window))
        if self.seen is not None:
            labelled &= self._burn("seen", window)
        return np.where(labelled == 1, changed, np.uint8(IGNORED))

    def _burn(self, kind: str, window: Window, all_touched: bool = False) -> Pixels:
        outlines: Sequence[BaseGeometry] = getattr(self, kind)
        if kind not in self._trees:
            self._trees[kind] = shapely.STRtree(outlines)
        box = shapely.box(*rasterio.windows.bounds(window, self.grid.transform))
        place = rasterio.windows.transform(window, self.grid.transform)
        near = [outlines[index] for index in self._trees[kind].query(box)]
        return burn(near, place, (window.height, window.width), all_touched)


class RasterLabels:
    """Labels from a raster of 0 and 1, or 0 and 255, on any grid.

    Pixels outside the raster have no label, and neither have those of its nodata value, unless the
    value is 0 or 1.

    Args:
        path: The raster.
        grid: The grid to read on.

    Raises:
        SceneError: If the raster cannot be read.
        DataError: If the raster has no CRS, lies elsewhere, or holds other values.
    """

    def __init__(self, path: Path, grid: Grid):
        self.path, self.grid = path, grid
        self.raster = open_raster(str(path))
        if self.raster.crs is None:
            raise DataError(f"{path}: has no CRS, so its labels have no place")
        if self.raster.count != 1:
            raise DataError(f"{path}: has {self.raster.count} bands, expected one of labels")
        own = self.raster.nodata
        # Many programs tag 0, the value of no change, as nodata.
        named = own is not None and own not in (0, 1)
        with raster_errors(f"{path}: cannot be read"):
            self.view = WarpedVRT(
                self.raster,
                crs=grid.crs,
                transform=grid.transform,
                width=grid.width,
                height=grid.height,
                resampling=Resampling.nearest,
                src_nodata=own if named else UNLABELLED,
                nodata=UNLABELLED,
                dtype="float32",
            )
        self.scale = self._find_scale()

    def read(self, window: Window) -> Pixels:
        """The labels of a window."""
        values = self._stored(window)
        labelled = values != UNLABELLED
        return np.where(labelled, values == self.scale, IGNORED).astype(np.uint8)

    def _stored(self, window: Window) -> Pixels:
        with raster_errors(f"{self.path}: cannot be read"):
            values: Pixels = self.view.read(1, window=window)
            return values

    def _find_scale(self) -> int:
        found: set[float] = set()
        for window in row_windows(self.grid.width, self.grid.height):
            found |= {*np.unique(self._stored(window)).tolist()} - {UNLABELLED}
        if not found:
            raise DataError(f"{self.path}: lies outside the scene")
        for scale in (1, 255):
            if found <= {0, scale}:
                return scale
        listed = ", ".join(f"{value:g}" for value in sorted(found)[:5])
        raise DataError(f"{self.path}: label of values {listed}, expected 0 and 1, or 0 and 255")


def read_labels(
    path: Path,
    grid: Grid,
    *,
    where: str | None = None,
    extent: Path | None = None,
    all_touched: bool = False,
) -> tuple[Labels, Tidied]:
    """Reads the labels of a scene.

    Args:
        path: A file of polygons, in any CRS, or a raster of labels.
        grid: The grid of the scene.
        where: Chooses polygons by their attributes, in OGR's SQL, such as ``"class = 'new'"``.
        extent: A file of polygons: what was labelled. By default the whole scene.
        all_touched: Whether each pixel counts that a polygon touches.

    Raises:
        DataError: If a file cannot be read, or holds nothing of use.
    """
    seen = None if extent is None else _read_outlines(extent, grid, None)[0]
    if path.suffix.lower() not in RASTER_SUFFIXES:
        outlines, tidied = _read_outlines(path, grid, where)
        return PolygonLabels(grid, outlines, seen, all_touched=all_touched), tidied
    if where is not None or all_touched:
        name = "where" if where is not None else "all_touched"
        raise DataError(f"{path}: is a raster, and `{name}` is for polygons; leave it out")
    labels: Labels = RasterLabels(path, grid)
    return labels if seen is None else _Within(labels, PolygonLabels(grid, (), seen)), Tidied()


class _Within(NamedTuple):
    """Labels where other labels are not ignored."""

    labels: Labels
    seen: PolygonLabels

    def read(self, window: Window) -> Pixels:
        labels, seen = self.labels.read(window), self.seen.read(window)
        return np.where(seen == IGNORED, np.uint8(IGNORED), labels)


def _read_outlines(path: Path, grid: Grid, where: str | None) -> tuple[list[BaseGeometry], Tidied]:
    table = read_polygons(path, where)
    check_polygons(table, path, {*POLYGONS, "GeometryCollection"})
    chosen = f" where {where}" if where else ""
    if table.empty:
        raise DataError(f"{path}: holds no polygon{chosen}")
    outlines, tidied = _tidy(table, grid)
    if not outlines:
        raise DataError(f"{path}: no polygon{chosen} lies in the scene ({tidied})")
    return outlines, tidied


def _tidy(table: GeoDataFrame, grid: Grid) -> tuple[list[BaseGeometry], Tidied]:
    """Valid polygons in the CRS of the grid, and what was done to get them."""
    there = table.geometry[~(table.geometry.isna() | table.geometry.is_empty)]
    moved = there.to_crs(grid.crs.to_wkt())
    crossed = ~there.is_valid
    # Where a CRS does not reach, coordinates become infinite.
    reached = moved[np.isfinite(moved.bounds).all(axis=1)]
    turned = turn_to_grid(reached.make_valid(), grid)
    whole = [shapely.union_all(_polygons(shape)) for shape in turned]
    outlines = [shape for shape in whole if shape.area > 0]
    extent = shapely.box(*grid.bounds)
    inside = [shape for shape in outlines if shape.intersects(extent)]
    tidied = Tidied(
        len(table),
        int(crossed.sum()),
        int((shapely.get_num_geometries(there) > 1).sum()),
        len(table) - len(there) + len(whole) - len(outlines),
        len(moved) - len(reached) + len(outlines) - len(inside),
    )
    return inside, tidied


def _polygons(shape: BaseGeometry) -> list[BaseGeometry]:
    return [part for part in shapely.get_parts(shape, return_index=False) if part.area > 0]

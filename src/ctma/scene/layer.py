"""Writes polygons to a GeoPackage, and finds out whether all of them are there."""

from __future__ import annotations

import io
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from shapely import Point, simplify, to_wkb, total_bounds
from shapely.geometry.base import BaseGeometry

from ctma.errors import OutputError
from ctma.inference.certainty import scale_objects
from ctma.scene.grid import Grid
from ctma.scene.polygons import Change, GroundArea, on_grid
from ctma.scene.settings import PolygonSettings
from ctma.scene.strips import STEPS

CHUNK = 5000
"""Number of polygons in memory from which on they are written; those of a strip come together."""

Extent = tuple[float, ...]

LAYER = "changes"

_COLUMNS = {"id": "int64", "area_m2": "f8", "mean_probability": "f8", "max_probability": "f8"}

_FIXED = ("gpkg_spatial_ref_sys", "gpkg_geometry_columns", "gpkg_extensions")
"""Tables that do not depend on the polygons."""


class PolygonLayer:
    """Writes polygons to a GeoPackage, with a chunk and a strip's polygons in memory.

    Args:
        path: The GeoPackage.
        grid: The scene's grid.
        settings: How polygons are written.
    """

    def __init__(self, path: Path, grid: Grid, settings: PolygonSettings):
        self.path = path
        self.grid = grid
        self.crs = grid.crs.to_wkt()
        self.min_area = settings.min_area
        self.certainty = settings.certainty
        self.tolerance = settings.simplify * abs(grid.transform.a)
        self.ground_area = GroundArea(grid)
        self.geometries: list[BaseGeometry] = []
        self.records: list[tuple[float, ...]] = []
        self.count = 0
        self.area = 0.0
        self.extent: Extent | None = None

    def add(self, changes: Iterator[Change]) -> None:
        """Adds changes; their probabilities are in steps, as stored in the raster."""
        found = [*changes]
        outlines = on_grid([change.outline for change in found], self.grid)
        areas = self.ground_area(outlines)
        means = [change.total / change.pixels / STEPS for change in found]
        means = scale_objects(means, *self.certainty).tolist()
        if self.tolerance:
            outlines = simplify(outlines, self.tolerance)
        for change, outline, area, mean in zip(found, outlines, areas, means, strict=True):
            if area < self.min_area:
                continue
            self.count += 1
            self.area += area
            self.geometries.append(outline)
            highest = change.highest / STEPS
            self.records.append((self.count, round(area, 2), round(mean, 4), round(highest, 4)))
        if len(self.records) >= CHUNK:
            self._flush()

    def close(self) -> None:
        """Writes the remaining polygons; a scene without changes gives an empty layer.

        Raises:
            OutputError: If the file does not hold all that was written.
        """
        if self.records or not self.count:
            self._flush()
        self._check()

    def _flush(self) -> None:
        with plain_path(self.path) as path:
            self._write(path, self.geometries, self.records, append=self.path.exists())
        if self.geometries:
            self.extent = _unite(self.extent, tuple(total_bounds(self.geometries).tolist()))
        self.geometries, self.records = [], []

    def _write(
        self, target: Path | io.BytesIO, geometries: list[Any], records: list[Any], **options: Any
    ) -> None:
        import pyogrio

        columns = np.array(records, np.float64).reshape(-1, len(_COLUMNS)).T
        with fixed_date():
            pyogrio.raw.write(
                target,
                to_wkb(np.array(geometries, dtype=object)),
                [
                    values.astype(kind)
                    for values, kind in zip(columns, _COLUMNS.values(), strict=True)
                ],
                [*_COLUMNS],
                driver="GPKG",
                layer=LAYER,
                geometry_type="Polygon",
                crs=self.crs,
                **options,
            )

    def _check(self) -> None:
        """Compares the file with one in memory: GDAL does not report all statements that fail."""
        model = io.BytesIO()
        self._write(model, [Point().buffer(1)], [(1, 0, 0, 0)])
        with closing(sqlite3.connect(":memory:")) as expected:
            expected.deserialize(model.getvalue())
            wanted = _describe(expected)
        try:
            with closing(sqlite3.connect(self.path)) as found:
                whole = (
                    _describe(found) == wanted
                    and _count(found) == {self.count}
                    and _is_same(_read_extent(found), self.extent)
                )
        except sqlite3.Error:
            whole = False
        if not whole:
            raise OutputError(
                f"cannot write {self.path}: the disk did not take all of the polygons"
            )


def _describe(database: sqlite3.Connection) -> list[Any]:
    """What is the same in all layers of one CRS: marks, tables, and what these say of the CRS."""
    names = "SELECT type, name FROM sqlite_master ORDER BY type, name"
    questions = ["PRAGMA application_id", "PRAGMA user_version", "PRAGMA integrity_check", names]
    questions += [f"SELECT * FROM {table} ORDER BY 1, 2" for table in _FIXED]  # noqa: S608 (ours)
    return [database.execute(question).fetchall() for question in questions]


def _count(database: sqlite3.Connection) -> set[int]:
    """The numbers of polygons by the table, its index, and the stored count."""
    questions = (
        f"SELECT count(*) FROM {LAYER}",  # noqa: S608 (ours)
        f"SELECT count(*) FROM rtree_{LAYER}_geom",  # noqa: S608 (ours)
        "SELECT feature_count FROM gpkg_ogr_contents",
    )
    return {database.execute(question).fetchone()[0] for question in questions}


def _read_extent(database: sqlite3.Connection) -> Extent | None:
    question = "SELECT min_x, min_y, max_x, max_y FROM gpkg_contents"
    extent: Extent = database.execute(question).fetchone()
    return None if None in extent else extent


def _is_same(extent: Extent | None, other: Extent | None) -> bool:
    """Whether two extents are one; GDAL writes some 15 digits."""
    if extent is None or other is None:
        return extent is other
    return bool(np.allclose(extent, other, rtol=1e-12, atol=1e-9))


def _unite(extent: Extent | None, other: Extent) -> Extent:
    """West, south, east and north of two extents."""
    if extent is None:
        return other
    lowest, highest = np.minimum(extent, other), np.maximum(extent, other)
    return (*lowest[:2].tolist(), *highest[2:].tolist())


@contextmanager
def plain_path(path: Path) -> Iterator[Path]:
    """A path to the same file that pyogrio can read: pyogrio misreads ``!`` and line breaks."""
    from pyogrio.util import vsi_path

    if vsi_path(path) == str(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "link"
        link.symlink_to(path.parent.resolve(), target_is_directory=True)
        yield link / path.name


@contextmanager
def fixed_date() -> Iterator[None]:
    """Fixes the date that GeoPackages store, so that equal runs give equal bytes."""
    import pyogrio

    previous_date = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "1970-01-01T00:00:00.000Z"})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": previous_date})

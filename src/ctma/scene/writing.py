"""Writes strips to files that GIS programs open: COGs and polygons."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError
from pyogrio.util import vsi_path
from rasterio.errors import RasterioError
from rasterio.windows import Window
from shapely import to_wkb
from shapely.geometry.base import BaseGeometry

from ctma.errors import OutputError, extras, first_line
from ctma.files import refuse_inputs
from ctma.scene.grid import Grid
from ctma.scene.polygons import Change, GroundArea, Tracer
from ctma.scene.rasters import files_beside
from ctma.scene.settings import POLYGON_DRIVERS, PolygonSettings
from ctma.scene.store import Store, unfinished_sources
from ctma.scene.strips import NO_DATA, STEPS

BLOCK = 512
CHUNK = 5000
"""Number of polygons in memory before they are written."""

TRACED_ROWS = 512
"""Rows whose changes are traced at a time."""

RASTERS = {"probability.tif": "average", "mask.tif": "nearest"}
"""Raster files, each with the resampling of its overviews; mode would remove rare change."""

SUMMARY = "summary.json"

PICTURE = "overview.png"
"""The picture of a result."""

_COLUMNS = {"id": "int64", "area_m2": "f8", "mean_probability": "f8", "max_probability": "f8"}


def check_outputs(output: Path, sources: tuple[str, str], overwrite: bool) -> None:
    """Checks before any work that no file would be lost.

    Args:
        output: The folder.
        sources: Paths of the rasters before and after.
        overwrite: Whether ctma may replace the map of another pair.

    Raises:
        OutputError: If an output is an input, or the folder holds another pair's finished or
            unfinished map.
    """
    polygons = (f"changes.{form}" for form in POLYGON_DRIVERS)
    outputs = [output / name for name in (*RASTERS, *polygons, SUMMARY, PICTURE)]
    if any(path.exists() for path in outputs):
        beside = (file for source in sources for file in files_beside(source))
        refuse_inputs((*sources, *beside), outputs)
    if overwrite:
        return
    there = [path for path in outputs if path.exists()]
    unfinished = unfinished_sources(output)
    if there and sources not in (unfinished, _read_sources(output / SUMMARY)):
        raise OutputError(
            f"{there[0]}: is there already and is not known as the map of this pair; name another "
            "folder, or replace it with `overwrite`"
        )
    if unfinished is not None and unfinished != sources:
        raise OutputError(
            f"{output}: holds the unfinished map of {' and '.join(unfinished)}; go on with those "
            "and `resume`, name another folder, or drop it with `overwrite`"
        )


def check_format(polygon_format: str) -> None:
    """Checks before any work that polygons can be written in this format.

    Raises:
        MissingExtraError: If a package is not installed.
    """
    if polygon_format == "parquet":
        with extras():
            import geopandas  # noqa: F401
            import pyarrow.parquet  # noqa: F401  (geopandas does not name it where it is missing)


def _read_sources(summary: Path) -> tuple[str, str] | None:
    """The pair of rasters that a folder's summary names."""
    try:
        content = json.loads(summary.read_text())
        return content["before"]["path"], content["after"]["path"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_scene(
    strips: Iterable[NDArray[np.uint8]],
    grid: Grid,
    store: Store,
    output: Path,
    settings: PolygonSettings,
) -> dict[str, Any]:
    """Writes rasters and polygons; the files get their names once all of them are complete.

    Args:
        strips: From top to bottom, as ``ctma.scene.strips.blend`` gives them.
        grid: The scene's grid.
        store: The store, which also holds unfinished files.
        output: The folder, on the store's file system.
        settings: How polygons are written.

    Returns:
        The changed area and share, and numbers of pixels and changes, by name.

    Raises:
        OutputError: If a file cannot be written.
    """
    layer = PolygonLayer(store.scratch("traced.gpkg"), grid, settings)
    names = [*RASTERS, f"changes.{settings.form}"]
    parts = [store.scratch(name) for name in names]
    try:
        pixels = _write_rasters(strips, grid, store, layer, parts)
        layer.close()
        with plain_path(layer.path) as traced, plain_path(parts[-1]) as target:
            _convert(traced, target, settings.form)
        for old_name in (SUMMARY, PICTURE, *(f"changes.{form}" for form in POLYGON_DRIVERS)):
            (output / old_name).unlink(missing_ok=True)
        for name, part in zip(names, parts, strict=True):
            os.replace(part, output / name)
    except (RasterioError, DataSourceError, DataLayerError) as error:
        raise OutputError(f"cannot write {output}: {first_line(error)}") from error
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"cannot write {output}: {error.strerror or error}") from error
    return {**pixels, "changes": layer.count, "changed_area_m2": round(layer.area, 2)}


class PolygonLayer:
    """Writes polygons to a GeoPackage, with one chunk in memory at a time.

    Args:
        path: The GeoPackage.
        grid: The scene's grid.
        settings: How polygons are written.
    """

    def __init__(self, path: Path, grid: Grid, settings: PolygonSettings):
        self.path = path
        self.crs = grid.crs.to_wkt()
        self.min_area = settings.min_area
        self.tolerance = settings.simplify * abs(grid.transform.a)
        self.ground_area = GroundArea(grid)
        self.geometries: list[BaseGeometry] = []
        self.records: list[tuple[float, ...]] = []
        self.count = 0
        self.area = 0.0

    def add(self, changes: Iterator[Change]) -> None:
        """Adds changes; their probabilities are in steps, as stored in the raster."""
        for change in changes:
            geometry = change.geometry
            area = self.ground_area(geometry)
            if area < self.min_area:
                continue
            self.count += 1
            self.area += area
            if self.tolerance:
                geometry = geometry.simplify(self.tolerance)
            self.geometries.append(geometry)
            mean, highest = change.total / change.pixels / STEPS, change.highest / STEPS
            self.records.append((self.count, round(area, 2), round(mean, 4), round(highest, 4)))
            if len(self.records) >= CHUNK:
                self._flush()

    def close(self) -> None:
        """Writes the remaining polygons; a scene without changes gives an empty layer."""
        if self.records or not self.count:
            self._flush()

    def _flush(self) -> None:
        columns = np.array(self.records, np.float64).reshape(-1, len(_COLUMNS)).T
        with _fixed_date(), plain_path(self.path) as path:
            pyogrio.raw.write(
                path,
                to_wkb(np.array(self.geometries, dtype=object)),
                [
                    values.astype(kind)
                    for values, kind in zip(columns, _COLUMNS.values(), strict=True)
                ],
                [*_COLUMNS],
                driver="GPKG",
                layer="changes",
                geometry_type="Polygon",
                crs=self.crs,
                append=self.path.exists(),
            )
        self.geometries, self.records = [], []


def _write_rasters(
    strips: Iterable[NDArray[np.uint8]],
    grid: Grid,
    store: Store,
    layer: PolygonLayer,
    parts: list[Path],
) -> dict[str, Any]:
    tracer = Tracer(grid)
    plains = [store.scratch(f"plain-{name}") for name in RASTERS]
    changed = seen = row = 0
    profile = {
        "driver": "GTiff", "dtype": "uint8", "count": 1, "nodata": NO_DATA, "tiled": True,
        "blockxsize": BLOCK, "blockysize": BLOCK, "bigtiff": "if_safer",
        "crs": grid.crs, "transform": grid.transform,
        "width": grid.width, "height": grid.height,
    }  # fmt: skip
    with ExitStack() as files:
        rasters = [files.enter_context(rasterio.open(path, "w", **profile)) for path in plains]
        rasters[0].scales = (1 / STEPS,)
        for strip in strips:
            stored, mask = strip
            for raster, values in zip(rasters, strip, strict=True):
                raster.write(values, 1, window=Window(0, row, grid.width, len(values)))
            for first in range(0, len(mask), TRACED_ROWS):
                traced = slice(first, first + TRACED_ROWS)
                change = mask[traced] == 1
                layer.add(tracer.add(change.view(np.uint8), stored[traced]))
                changed += int(np.count_nonzero(change))
            seen += int(np.count_nonzero(mask != NO_DATA))
            row += len(mask)
    layer.add(tracer.close())
    for plain, part, resampling in zip(plains, parts, RASTERS.values(), strict=False):
        _to_cog(plain, part, resampling)
    return {
        "valid_pixels": seen,
        "changed_pixels": changed,
        "changed_share": changed / seen if seen else 0.0,
    }


def _to_cog(plain: Path, target: Path, resampling: str) -> None:
    rasterio.shutil.copy(
        plain, target, driver="COG", compress="lzw", bigtiff="if_safer",
        num_threads="all_cpus", overview_resampling=resampling,
    )  # fmt: skip
    plain.unlink()


def _convert(traced: Path, target: Path, polygon_format: str) -> None:
    """Moves the GeoPackage to its target, or writes its polygons in another format."""
    if polygon_format == "gpkg":
        os.replace(traced, target)
    elif polygon_format == "parquet":
        import geopandas

        geopandas.read_file(traced).to_parquet(target)
    else:
        with pyogrio.open_arrow(traced, use_pyarrow=False) as (described, polygons):
            # GeoJSON has only one CRS (RFC 7946): GDAL converts the coordinates.
            options = {"RFC7946": "YES"} if polygon_format == "geojson" else {}
            pyogrio.write_arrow(
                polygons,
                target,
                driver=POLYGON_DRIVERS[polygon_format],
                layer="changes",
                geometry_type="Polygon",
                geometry_name=described["geometry_name"],
                crs=described["crs"],
                **options,
            )


@contextmanager
def plain_path(path: Path) -> Iterator[Path]:
    """A path to the same file that pyogrio can read: pyogrio misreads ``!`` and line breaks."""
    if vsi_path(path) == str(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "link"
        link.symlink_to(path.parent.resolve(), target_is_directory=True)
        yield link / path.name


@contextmanager
def _fixed_date() -> Iterator[None]:
    """Fixes the date that GeoPackages store, so that equal runs give equal bytes."""
    previous_date = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "1970-01-01T00:00:00.000Z"})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": previous_date})

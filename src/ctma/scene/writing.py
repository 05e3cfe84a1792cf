"""Writes strips to files that GIS programs open: COGs and polygons."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from ctma.errors import OutputError, extras, first_line
from ctma.files import check_folder, refuse_inputs, whole_file
from ctma.scene.grid import Grid
from ctma.scene.layer import LAYER, PolygonLayer, plain_path
from ctma.scene.names import (
    ACCEPTED,
    DOUBT,
    LARGEST,
    PAGE,
    PICTURE,
    PROJECT,
    RASTERS,
    STYLES,
    SUMMARY,
)
from ctma.scene.polygons import Tracer
from ctma.scene.rasters import files_beside, heeding_errors
from ctma.scene.settings import POLYGON_DRIVERS, PolygonSettings
from ctma.scene.store import Store, unfinished_sources
from ctma.scene.strips import NO_DATA, STEPS, STRIP_ROWS, row_windows
from ctma.scene.styles import Style, add_style

_OTHERS = (SUMMARY, PICTURE, LARGEST, PROJECT, *STYLES, PAGE, *ACCEPTED, DOUBT)


def check_outputs(
    output: Path, sources: tuple[str, str], overwrite: bool, resume: bool = False
) -> None:
    """Checks before any work that no file would be lost.

    Args:
        output: The folder.
        sources: Paths of the rasters before and after.
        overwrite: Whether ctma may replace the map of another pair, or a reviewed map.
        resume: Whether a finished map of the same run stays as it is.

    Raises:
        OutputError: If an output is an input, or the folder holds a reviewed map, or another
            pair's finished or unfinished map.
    """
    check_folder(output)
    try:
        str(output).encode()
    except UnicodeEncodeError as error:
        raise OutputError(f"{output}: is no name in UTF-8, which GDAL asks for") from error
    polygons = (f"changes.{form}" for form in POLYGON_DRIVERS)
    outputs = [output / name for name in (*RASTERS, *polygons, *_OTHERS)]
    if any(path.exists() for path in outputs):
        beside = (file for source in sources for file in files_beside(source))
        refuse_inputs((*sources, *beside), outputs)
    if overwrite:
        return
    if not resume and (output / ACCEPTED[0]).exists():
        raise OutputError(
            f"{output}: holds a reviewed map, whose verdicts would be lost; name another folder, "
            "or replace it with `overwrite`"
        )
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
    """Checks before any work that rasters, and polygons in this format, can be written.

    Polygons of GDAL's drivers are checked in ``write_scene``: pyogrio takes long to load.

    Raises:
        MissingExtraError: If a package is not installed.
        OutputError: If GDAL has no driver for a file.
    """
    if polygon_format == "parquet":
        with extras():
            import geopandas  # noqa: F401
            import pyarrow.parquet  # noqa: F401  (geopandas does not name it where it is missing)
    with rasterio.Env() as environment:
        _check_drivers({"GTiff", "COG", "VRT"}, environment.drivers())


def _check_drivers(wanted: set[str], drivers: Collection[str]) -> None:
    """Refuses to go on where GDAL lacks a driver."""
    if needed := wanted.difference(drivers):
        skipped = os.environ.get("GDAL_SKIP")
        reason = f"; the variable GDAL_SKIP ({skipped}) leaves out drivers" if skipped else ""
        raise OutputError(f"GDAL has no driver {', '.join(sorted(needed))}{reason}")


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
    style: Style,
) -> dict[str, Any]:
    """Writes rasters and polygons; the files get their names once all of them are complete.

    Args:
        strips: From top to bottom, as ``ctma.scene.strips.blend`` gives them.
        grid: The scene's grid.
        store: The store, which also holds unfinished files.
        output: The folder, on the store's file system.
        settings: How polygons are written.
        style: How QGIS draws the polygons.

    Returns:
        The changed area and share, and numbers of pixels and changes, by name.

    Raises:
        OutputError: If GDAL has no driver for the polygons, or a file cannot be written.
    """
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError

    if settings.form != "parquet":
        _check_drivers({"GPKG", POLYGON_DRIVERS[settings.form]}, pyogrio.list_drivers())
    layer = PolygonLayer(store.scratch("traced.gpkg"), grid, settings)
    names = [*RASTERS, f"changes.{settings.form}"]
    parts = [store.scratch(name) for name in names]
    try:
        pixels = _write_rasters(strips, grid, store, layer, parts)
        layer.close()
        with plain_path(layer.path) as traced, plain_path(parts[-1]) as target:
            _convert(traced, target, settings.form)
        if settings.form == "gpkg":
            with closing(sqlite3.connect(parts[-1])) as package:
                add_style(package, LAYER, style)
        for old_name in (*_OTHERS, *(f"changes.{form}" for form in POLYGON_DRIVERS)):
            (output / old_name).unlink(missing_ok=True)
        for name, part in zip(names, parts, strict=True):
            os.replace(part, output / name)
    except (
        RasterioError, CPLE_BaseError, DataSourceError, DataLayerError, sqlite3.Error
    ) as error:  # fmt: skip
        raise OutputError(f"cannot write {output}: {first_line(error)}") from error
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"cannot write {output}: {error.strerror or error}") from error
    return {**pixels, "changes": layer.count, "changed_area_m2": round(layer.area, 2)}


def _write_rasters(
    strips: Iterable[NDArray[np.uint8]],
    grid: Grid,
    store: Store,
    layer: PolygonLayer,
    parts: list[Path],
) -> dict[str, Any]:
    tracer = Tracer(grid)
    plains = [store.scratch(f"plain-{name}") for name in RASTERS]
    changed = seen = 0
    with ExitStack() as files:
        raws = [files.enter_context(path.open("wb")) for path in plains]
        for strip in strips:
            stored, mask = strip
            for raw, values in zip(raws, strip, strict=True):
                raw.write(np.ascontiguousarray(values).data)
            for first in range(0, len(mask), STRIP_ROWS):
                traced = slice(first, first + STRIP_ROWS)
                change = mask[traced] == 1
                layer.add(tracer.add(change.view(np.uint8), stored[traced]))
                changed += int(np.count_nonzero(change))
            seen += int(np.count_nonzero(mask != NO_DATA))
    layer.add(tracer.close())
    # Outside the threads too: each thread sets back how much is logged.
    with heeding_errors(parts[0]), ThreadPoolExecutor(len(plains)) as threads:
        finish = partial(_finish_raster, grid)
        list(threads.map(finish, plains, parts, (1 / STEPS, 1.0), RASTERS.values()))
    return {
        "valid_pixels": seen,
        "changed_pixels": changed,
        "changed_share": changed / seen if seen else 0.0,
    }


def write_mask(path: Path, grid: Grid, strips: Iterable[NDArray[np.uint8]]) -> None:
    """Writes a mask as a COG, whole or not at all.

    Args:
        path: The file.
        grid: The grid of the mask.
        strips: The mask from top to bottom, (rows, W): 1 is change, 255 no data.

    Raises:
        OutputError: If the file cannot be written.
    """
    write_plane(path, grid, strips, 1.0, RASTERS["mask.tif"])


def write_plane(
    path: Path, grid: Grid, strips: Iterable[NDArray[np.uint8]], scale: float, resampling: str
) -> None:
    """Writes a raster of one band as a COG, whole or not at all.

    Args:
        path: The file.
        grid: The grid of the raster.
        strips: The values from top to bottom, (rows, W); 255 is no data.
        scale: Factor from stored values to what they mean.
        resampling: How overviews are made.

    Raises:
        OutputError: If the file cannot be written.
    """
    with whole_file(path) as part:
        plain = part.with_suffix(".raw")
        try:
            with plain.open("wb") as raw:
                for strip in strips:
                    raw.write(np.ascontiguousarray(strip).data)
            _finish_raster(grid, plain, part, scale, resampling)
        except (RasterioError, CPLE_BaseError) as error:
            raise OutputError(f"cannot write {path}: {first_line(error)}") from error
        finally:
            plain.unlink(missing_ok=True)
            plain.with_suffix(".vrt").unlink(missing_ok=True)


def _finish_raster(grid: Grid, plain: Path, part: Path, scale: float, resampling: str) -> None:
    """Makes a COG of the bytes of a raster, and removes the bytes."""
    described = _describe_raw(plain, grid, scale)
    with heeding_errors(part):
        _to_cog(described, part, resampling)
    _check_raster(part, plain)
    for path in (described, plain):
        path.unlink()


def _check_raster(part: Path, plain: Path) -> None:
    """Reads a COG back: libtiff does not report each write that fails.

    Raises:
        OutputError: If the COG does not hold the bytes, or an overview cannot be read.
    """
    with plain.open("rb") as raw:
        for values in _read_rows(part):
            if not np.array_equal(values, np.fromfile(raw, np.uint8, values.size)):
                raise OutputError(f"cannot write {part}: the disk did not take all of the raster")
    with rasterio.open(part) as raster:
        levels = len(raster.overviews(1))
    for level in range(levels):
        for _ in _read_rows(part, overview_level=level):
            pass


def _read_rows(path: Path, **options: int) -> Iterator[NDArray[np.uint8]]:
    """The values of a raster, some rows after the other."""
    with rasterio.open(path, **options) as raster:
        for window in row_windows(raster.width, raster.height):
            yield raster.read(1, window=window).ravel()


def _describe_raw(raw: Path, grid: Grid, scale: float) -> Path:
    """Writes a VRT beside the bytes of a raster, row after row, so that GDAL can read them.

    GDAL does not write the bytes itself: on a full disk, libtiff may never return.
    """
    place = ", ".join(map(repr, grid.transform.to_gdal()))
    path = raw.with_suffix(".vrt")
    path.write_text(
        f'<VRTDataset rasterXSize="{grid.width}" rasterYSize="{grid.height}">'
        f"<SRS>{escape(grid.crs.to_wkt())}</SRS><GeoTransform>{place}</GeoTransform>"
        '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
        f"<NoDataValue>{NO_DATA}</NoDataValue><Scale>{scale!r}</Scale>"
        f'<SourceFilename relativeToVRT="1">{escape(raw.name)}</SourceFilename>'
        f"<PixelOffset>1</PixelOffset><LineOffset>{grid.width}</LineOffset>"
        "</VRTRasterBand></VRTDataset>",
        encoding="utf-8",
    )
    return path


def _to_cog(source: Path, target: Path, resampling: str) -> None:
    rasterio.shutil.copy(
        source, target, driver="COG", compress="lzw", bigtiff="if_safer",
        num_threads="all_cpus", overview_resampling=resampling,
    )  # fmt: skip


def _convert(traced: Path, target: Path, polygon_format: str) -> None:
    """Moves the GeoPackage to its target, or writes its polygons in another format."""
    import pyogrio

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
                layer=LAYER,
                geometry_type="Polygon",
                geometry_name=described["geometry_name"],
                crs=described["crs"],
                **options,
            )
        counts = [
            pyogrio.read_info(path, force_feature_count=True)["features"]
            for path in (traced, target)
        ]
        if counts[0] != counts[1]:
            raise OutputError(f"cannot write {target}: the disk did not take all polygons")

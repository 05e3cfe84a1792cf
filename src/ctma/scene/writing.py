"""Writes the files of a map: rasters, polygons and a picture."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from ctma.errors import OutputError, extras, first_line
from ctma.files import check_folder, refuse_inputs
from ctma.scene.cogs import describe_raw, pack
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
from ctma.scene.rasters import files_beside, logging_errors
from ctma.scene.settings import POLYGON_DRIVERS, PolygonSettings
from ctma.scene.store import Store, unfinished_sources
from ctma.scene.strips import NO_DATA, STEPS, STRIP_ROWS
from ctma.scene.styles import Style, add_style

Draw = Callable[[Path, Path, dict[str, Any]], None]
"""Draws a picture into the store, under the name ``PICTURE``.

It takes a raster of the probability, the file of polygons, and counts by name. It raises no
error: a map is complete without its picture."""

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
    if not resume:
        refuse_reviewed(output)
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


def refuse_reviewed(output: Path) -> None:
    """Refuses a folder whose verdicts would be lost.

    Raises:
        OutputError: If the folder holds a reviewed map.
    """
    if (output / ACCEPTED[0]).exists():
        raise OutputError(
            f"{output}: holds a reviewed map, whose verdicts would be lost; name another folder, "
            "or replace it with `overwrite`"
        )


def check_format(polygon_format: str) -> None:
    """Checks before any work that rasters, and polygons in this format, can be written.

    Polygons of GDAL's drivers are checked by ``MapWriter``: pyogrio takes long to load.

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


class MapWriter:
    """Writes the files of a map, which get their names once all of them are complete.

    Args:
        output: The folder, on the store's file system.
        grid: The scene's grid.
        store: The store, which also holds unfinished files.
        settings: How polygons are written.
        style: How QGIS draws the polygons.

    Raises:
        OutputError: If GDAL has no driver for the polygons.
    """

    def __init__(
        self, output: Path, grid: Grid, store: Store, settings: PolygonSettings, style: Style
    ):
        import pyogrio

        if settings.form != "parquet":
            _check_drivers({"GPKG", POLYGON_DRIVERS[settings.form]}, pyogrio.list_drivers())
        self.output = output
        self.grid = grid
        self.form = settings.form
        self.style = style
        self.layer = PolygonLayer(store.scratch("traced.gpkg"), grid, settings)
        self.plains = [store.scratch(f"plain-{name}") for name in RASTERS]
        names = (*RASTERS, f"changes.{self.form}", PICTURE)
        self.parts = {name: store.scratch(name) for name in names}
        self.changed = self.seen = 0

    def take(self, strips: Iterable[NDArray[np.uint8]]) -> None:
        """Writes the bytes of the rasters, and traces the changes.

        Args:
            strips: From top to bottom, as ``ctma.scene.strips.blend`` gives them.

        Raises:
            OutputError: If a file cannot be written.
        """
        tracer = Tracer(self.grid.width)
        with _write_errors(self.output), ExitStack() as files:
            raws = [files.enter_context(path.open("wb")) for path in self.plains]
            for strip in strips:
                stored, mask = strip
                for raw, values in zip(raws, strip, strict=True):
                    raw.write(np.ascontiguousarray(values).data)
                for first in range(0, len(mask), STRIP_ROWS):
                    traced = slice(first, first + STRIP_ROWS)
                    change = mask[traced] == 1
                    self.layer.add(tracer.add(change.view(np.uint8), stored[traced]))
                    self.changed += int(np.count_nonzero(change))
                self.seen += int(np.count_nonzero(mask != NO_DATA))
            self.layer.add(tracer.close())

    def finish(self, draw: Draw) -> dict[str, Any]:
        """Completes all files, and gives them their names.

        Args:
            draw: Draws the picture, while the rasters are packed.

        Returns:
            The changed area and share, and numbers of pixels and changes, by name.

        Raises:
            OutputError: If a file cannot be written.
        """
        with _write_errors(self.output):
            described = [
                describe_raw(plain, self.grid, scale)
                for plain, scale in zip(self.plains, (1 / STEPS, 1.0), strict=True)
            ]
            *rasters, polygons, _ = self.parts.values()
            pack_beside = partial(pack, beside=len(rasters))
            # Outside the threads too: each thread sets back how much is logged.
            with logging_errors(), ThreadPoolExecutor(len(rasters)) as threads:
                packed = threads.map(pack_beside, self.plains, described, rasters, RASTERS.values())
                self.layer.close()
                _finish_polygons(self.layer.path, polygons, self.form, self.style)
                counts = self._count()
                draw(described[0], polygons, counts)
                list(packed)
            for path in (*self.plains, *described):
                path.unlink()
            for old_name in (*_OTHERS, *(f"changes.{form}" for form in POLYGON_DRIVERS)):
                (self.output / old_name).unlink(missing_ok=True)
            for name, part in self.parts.items():
                if part.exists():  # a picture may not have been drawn
                    os.replace(part, self.output / name)
        return counts

    def _count(self) -> dict[str, Any]:
        return {
            "valid_pixels": self.seen,
            "changed_pixels": self.changed,
            "changed_share": self.changed / self.seen if self.seen else 0.0,
            "changes": self.layer.count,
            "changed_area_m2": round(self.layer.area, 2),
        }


@contextmanager
def _write_errors(output: Path) -> Iterator[None]:
    """Turns errors of disks, rasters and polygons into one line that names the folder.

    Raises:
        OutputError: Instead of these errors.
    """
    from pyogrio.errors import DataLayerError, DataSourceError

    try:
        yield
    except (
        RasterioError, CPLE_BaseError, DataSourceError, DataLayerError, sqlite3.Error
    ) as error:  # fmt: skip
        raise OutputError(f"cannot write {output}: {first_line(error)}") from error
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"cannot write {output}: {error.strerror or error}") from error


def _finish_polygons(traced: Path, target: Path, polygon_format: str, style: Style) -> None:
    """Moves the GeoPackage to its target, or writes its polygons in another format."""
    with plain_path(traced) as source, plain_path(target) as plain_target:
        _convert(source, plain_target, polygon_format)
    if polygon_format == "gpkg":
        with closing(sqlite3.connect(target)) as package:
            add_style(package, LAYER, style)


def _convert(traced: Path, target: Path, polygon_format: str) -> None:
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

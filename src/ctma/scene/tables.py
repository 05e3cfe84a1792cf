"""Reads and writes files of polygons with attributes, whole tables at once."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctma.errors import DataError, OutputError, first_line, warn
from ctma.files import whole_file
from ctma.scene.layer import LAYER, fixed_date, plain_path
from ctma.scene.settings import POLYGON_DRIVERS
from ctma.scene.styles import Style, add_style

if TYPE_CHECKING:
    from geopandas import GeoDataFrame


POLYGONS = frozenset({"Polygon", "MultiPolygon"})
"""Kinds of shapes with an area."""


def read_polygons(path: Path, where: str | None = None) -> GeoDataFrame:
    """Reads a file of polygons in any format that ctma writes or OGR reads.

    Args:
        path: The file; of several layers, the first is read.
        where: Chooses polygons by their attributes, in OGR's SQL, such as ``"class = 'new'"``.

    Raises:
        DataError: If the file is not there or cannot be read, or ``where`` does not fit.
    """
    import geopandas
    import pyogrio

    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        if path.suffix == ".parquet":
            table = geopandas.read_parquet(path)
            return table if where is None else _choose(table, where)
        with plain_path(path) as plain:
            _tell_layers(path, plain)
            table = pyogrio.read_dataframe(plain, layer=0, where=where)
    except Exception as error:
        if where is not None and (names := ", ".join(read_polygons(path).columns)):
            raise DataError(f"{path}: `where` {where} does not fit; attributes: {names}") from error
        raise DataError(f"{path}: cannot be read as polygons ({first_line(error)})") from error
    if not isinstance(table, geopandas.GeoDataFrame):
        raise DataError(f"{path}: holds a table without polygons")
    return table


def check_polygons(table: GeoDataFrame, path: Path, kinds: Collection[str]) -> None:
    """Refuses a table without a place on the ground, or of other shapes.

    Args:
        table: The table.
        path: The file of the table, for messages.
        kinds: The kinds of shapes that are taken, see ``POLYGONS``.

    Raises:
        DataError: If the table has no CRS, or holds other kinds.
    """
    if table.crs is None:
        raise DataError(f"{path}: has no CRS, so its polygons have no place")
    found = {*table.geom_type.dropna()}
    if not found <= {*kinds}:
        raise DataError(f"{path}: holds {', '.join(sorted(found))}, expected polygons")


def _tell_layers(path: Path, plain: Path) -> None:
    """Warns where a file has several layers of shapes."""
    import pyogrio

    layers = [str(name) for name, kind in pyogrio.list_layers(plain) if kind]
    if len(layers) > 1:
        warn(f"{path}: has the layers {', '.join(layers)}; the first one is read")


def _choose(table: GeoDataFrame, where: str) -> GeoDataFrame:
    """Chooses polygons of a table by OGR's SQL, as in files that OGR reads."""
    import pyogrio

    content = io.BytesIO()
    table.to_file(content, driver=POLYGON_DRIVERS["fgb"], layer=LAYER)
    return pyogrio.read_dataframe(content.getvalue(), layer=0, where=where)


def write_polygons(
    polygons: GeoDataFrame, path: Path, layer: str, style: Style, kind: str = "MultiPolygon"
) -> None:
    """Writes polygons with their attributes, whole or not at all.

    Args:
        polygons: The polygons.
        path: The file; its suffix is one of ``POLYGON_DRIVERS``.
        layer: The name of the layer, in formats that have one.
        style: How QGIS draws the layer, in formats that can say so.
        kind: ``"Polygon"``, or ``"MultiPolygon"`` where some have several parts.

    Raises:
        OutputError: If the file cannot be written.
    """
    from pyogrio.errors import DataLayerError, DataSourceError, FeatureError

    form = path.suffix[1:]
    # In memory first: GDAL does not report all statements that fail on a disk.
    content = io.BytesIO()
    try:
        if form == "parquet":
            polygons.to_parquet(content)
        else:
            options: dict[str, Any] = {"RFC7946": "YES"} if form == "geojson" else {}
            options |= {"geometry_type": kind, "promote_to_multi": kind == "MultiPolygon"}
            with fixed_date():
                polygons.to_file(content, driver=POLYGON_DRIVERS[form], layer=layer, **options)
    except (DataSourceError, DataLayerError, FeatureError) as error:
        raise OutputError(f"cannot write {path}: {first_line(error)}") from error
    written = content.getvalue()
    if form == "gpkg":
        with closing(sqlite3.connect(":memory:")) as database:
            database.deserialize(written)
            add_style(database, layer, style)
            written = database.serialize()
    with whole_file(path) as part:
        part.write_bytes(written)


def find_polygons(folder: Path) -> Path | None:
    """The file of changes in a folder, ``None`` if there is none."""
    files = (folder / f"changes.{form}" for form in POLYGON_DRIVERS)
    return next((path for path in files if path.is_file()), None)

"""The QGIS project of a map: one file that opens both dates, the rasters and the changes."""

from __future__ import annotations

import zipfile
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, SubElement, tostring

from pyproj import CRS
from rasterio import DatasetReader
from rasterio.enums import ColorInterp

from ctma.errors import CtmaError
from ctma.files import whole_file
from ctma.scene.finished import DATES, FinishedMap
from ctma.scene.layer import LAYER
from ctma.scene.names import PROJECT, STYLES
from ctma.scene.rasters import open_raster, raster_errors, raster_settings
from ctma.scene.styles import (
    VERSION,
    Range,
    Style,
    style_changes,
    style_dates,
    style_mask,
    style_palette,
    style_probability,
    to_hex,
    to_qml,
)

_FIRST_DATE = (1980, 1, 1, 0, 0, 0)
"""The date of the file in the project, so that equal maps give equal bytes."""


class Layer(NamedTuple):
    """A layer of a project.

    Attributes:
        name: Its name, which is unique.
        source: Its path from the folder of the project, or a URL.
        provider: ``gdal`` for rasters, ``ogr`` for polygons.
        crs: Its CRS.
        style: How it is drawn.
        shown: Whether it is switched on.
    """

    name: str
    source: str
    provider: str
    crs: CRS
    style: Style
    shown: bool

    @property
    def id(self) -> str:
        """The name that ties the parts of a project; QGIS replaces names of ten signs or fewer."""
        return f"ctma-layer-{self.name}"


def write_project(finished: FinishedMap) -> None:
    """Writes ``map.qgz`` and the styles of the rasters beside a finished map.

    The project names files by their way from the map's folder: both may be moved together.

    Raises:
        OutputError: If a file cannot be written.
    """
    styles = (style_probability(), style_mask())
    for name, style in zip(STYLES, styles, strict=True):
        with whole_file(finished.folder / name) as part:
            part.write_bytes(to_qml(style))
    crs = CRS.from_wkt(finished.grid.crs.to_wkt())
    polygons = finished.polygons.name
    source = f"./{polygons}|layername={LAYER}" if polygons.endswith(".gpkg") else f"./{polygons}"
    placed = CRS.from_epsg(4326) if polygons.endswith(".geojson") else crs
    threshold = float(finished.summary["threshold"])
    layers = [
        Layer("changes", source, "ogr", placed, style_changes(threshold), True),
        Layer("mask", "./mask.tif", "gdal", crs, styles[1], False),
        Layer("probability", "./probability.tif", "gdal", crs, styles[0], True),
        *_date_layers(finished),
    ]
    with whole_file(finished.folder / PROJECT) as part, zipfile.ZipFile(part, "w") as archive:
        member = zipfile.ZipInfo("map.qgs", _FIRST_DATE)
        member.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(member, _describe(layers, crs, finished.grid.bounds))


def _date_layers(finished: FinishedMap) -> list[Layer]:
    """Both dates, the later one on top; without those that cannot be opened any more."""
    layers = []
    for date in reversed(DATES):
        entry = finished.summary[date]
        try:
            with (
                raster_settings(),
                open_raster(entry["path"]) as raster,
                raster_errors(entry["path"]),
            ):
                crs = CRS.from_wkt(raster.crs.to_wkt())
                style = _style_date(raster, entry)
        except CtmaError:
            continue
        layers.append(Layer(date, _source_of(entry), "gdal", crs, style, True))
    return layers


def _style_date(raster: DatasetReader, entry: dict[str, Any]) -> Style:
    (first, *_) = entry["bands"]
    if raster.colorinterp[first - 1] == ColorInterp.palette:
        colours = raster.colormap(first)
        return style_palette(
            [
                (value, to_hex(colour[:3]), colour[3], str(value))
                for value, colour in colours.items()
            ]
        )
    scaling = entry["scaling"]
    ranges = zip(entry["bands"], scaling["low"], scaling["high"], strict=True)
    return style_dates([Range(*one) for one in ranges])


def _source_of(entry: dict[str, Any]) -> str:
    """The way from the folder to a date's file; addresses that are no files stay as they are."""
    way: str | None = entry["way"]
    if way is None:
        return str(entry["path"])
    return way if way.startswith("..") else f"./{way}"


def _describe(layers: list[Layer], crs: CRS, bounds: tuple[float, ...]) -> bytes:
    root = Element("qgis", version=VERSION, projectname="ctma")
    SubElement(root, "title").text = "ctma"
    SubElement(root, "projectCrs").append(_place(crs))
    tree = SubElement(root, "layer-tree-group")
    canvas = SubElement(root, "mapcanvas", name="theMapCanvas", annotationsVisible="1")
    SubElement(canvas, "units").text = "degrees" if crs.is_geographic else "meters"
    canvas.append(_extent(bounds))
    SubElement(canvas, "destinationsrs").append(_place(crs))
    described = SubElement(root, "projectlayers")
    order = SubElement(root, "layerorder")
    for layer in layers:
        SubElement(
            tree, "layer-tree-layer", id=layer.id, name=layer.name, source=layer.source,
            providerKey=layer.provider, expanded="0",
            checked="Qt::Checked" if layer.shown else "Qt::Unchecked",
        )  # fmt: skip
        SubElement(order, "layer", id=layer.id)
        described.append(_describe_layer(layer))
    properties = SubElement(root, "properties")
    for group, name, kind, value in (
        ("Paths", "Absolute", "bool", "false"),
        ("SpatialRefSys", "ProjectionsEnabled", "int", "1"),
    ):
        SubElement(SubElement(properties, group), name, type=kind).text = value
    return b"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + tostring(root)


def _describe_layer(layer: Layer) -> Element:
    vector = layer.provider == "ogr"
    described = Element("maplayer", type="vector" if vector else "raster", autoRefreshEnabled="0")
    if vector:
        described.set("geometry", "Polygon")
        described.set("labelsEnabled", "1")
    SubElement(described, "id").text = layer.id
    SubElement(described, "datasource").text = layer.source
    SubElement(described, "layername").text = layer.name
    SubElement(described, "srs").append(_place(layer.crs))
    SubElement(described, "provider", encoding="UTF-8").text = layer.provider
    described.extend(layer.style)
    return described


def _place(crs: CRS) -> Element:
    """A CRS as QGIS keeps it; without WKT and authority QGIS would drop the CRS."""
    place = Element("spatialrefsys", nativeFormat="Wkt")
    authority = crs.to_authority()
    SubElement(place, "wkt").text = crs.to_wkt("WKT2_2019")
    SubElement(place, "authid").text = ":".join(authority) if authority else ""
    SubElement(place, "description").text = crs.name
    SubElement(place, "geographicflag").text = str(crs.is_geographic).lower()
    return place


def _extent(bounds: tuple[float, ...]) -> Element:
    extent = Element("extent")
    for name, value in zip(("xmin", "ymin", "xmax", "ymax"), bounds, strict=True):
        SubElement(extent, name).text = repr(value)
    return extent

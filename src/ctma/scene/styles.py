"""How GIS programs draw a map: styles in the form of QGIS (QML), alone and within a GeoPackage."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np

from ctma.figures.colours import colour_classes, colour_probability

Style = list[Element]
"""The elements of a style; their order is theirs in a QML file."""

VERSION = "3.22.0"
"""The version of QGIS whose form the styles have; newer ones read this form."""

CLASSES = 5
"""Number of classes of probability in which changes are drawn."""

VERDICTS = {
    "right": "31,157,92",
    "unsure": "217,138,0",
    "disputed": "190,60,190",
    "missed": "21,128,196",
    "": "120,120,120",
}
"""Colours of accepted changes by verdict; the last is for all others."""

KINDS = {
    "gained": "21,128,196",
    "lost": "208,59,47",
    "split": "217,138,0",
    "merged": "190,60,190",
    "regrouped": "90,90,200",
    "": "31,157,92",
}
"""Colours of compared changes by what became of them; the last is for what was kept."""

_TABLE = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256),
    f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256),
    styleName TEXT(30), styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT,
    owner TEXT(30), ui TEXT(30),
    update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now'))
)
"""
"""The table in which QGIS looks for styles."""

_DATE = "1970-01-01T00:00:00.000Z"


class Range(NamedTuple):
    """Which stored values of one band become black and full colour."""

    band: int
    low: float
    high: float


def style_dates(ranges: Sequence[Range]) -> Style:
    """A date in its colours, or in grey where it has fewer than three bands."""
    if len(ranges) < 3:
        (first, *_) = ranges
        renderer = _renderer("singlebandgray", grayBand=str(first.band), gradient="BlackToWhite")
        _stretch(renderer, "contrastEnhancement", first)
        return [_pipe(renderer)]
    names = ("red", "green", "blue")
    bands = {f"{name}Band": str(one.band) for name, one in zip(names, ranges, strict=False)}
    renderer = _renderer("multibandcolor", **bands)
    for name, one in zip(names, ranges, strict=False):
        _stretch(renderer, f"{name}ContrastEnhancement", one)
    return [_pipe(renderer)]


def style_probability() -> Style:
    """Probability as a colour ramp, clear where the probability is small."""
    renderer = _renderer(
        "singlebandpseudocolor", band="1", classificationMin="0", classificationMax="1"
    )
    shader = SubElement(renderer, "rastershader")
    ramp = SubElement(
        shader, "colorrampshader", colorRampType="INTERPOLATED", classificationMode="1", clip="0",
        minimumValue="0", maximumValue="1",
    )  # fmt: skip
    for step in range(11):
        share = step / 10
        SubElement(
            ramp, "item", value=str(share), label=f"{share:.1f}",
            color=to_hex(colour_probability(np.array(share))), alpha=str(round(230 * share)),
        )  # fmt: skip
    return [_pipe(renderer)]


def style_mask() -> Style:
    """Change in red, all else clear."""
    return style_palette([(0, "#000000", 0, "no change"), (1, "#ff2d1a", 255, "change")])


def style_palette(entries: Sequence[tuple[int, str, int, str]]) -> Style:
    """Values as colours: value, colour, alpha, and label of each."""
    renderer = _renderer("paletted", band="1")
    palette = SubElement(renderer, "colorPalette")
    for value, colour, alpha, label in entries:
        SubElement(
            palette, "paletteEntry", value=str(value), color=colour, alpha=str(alpha), label=label
        )
    return [_pipe(renderer)]


def style_changes(threshold: float) -> Style:
    """Changes in classes of their mean probability, each with its number."""
    renderer = Element(
        "renderer-v2", type="graduatedSymbol", attr="mean_probability",
        graduatedMethod="GraduatedColor", symbollevels="0", forceraster="0", enableorderby="0",
    )  # fmt: skip
    ranges, symbols = SubElement(renderer, "ranges"), SubElement(renderer, "symbols")
    colours = colour_classes(CLASSES)
    edges = [threshold + (1 - threshold) * step / CLASSES for step in range(CLASSES + 1)]
    for number, (lower, upper) in enumerate(pairwise(edges)):
        # A mean over many pixels may be rounded to just below the threshold.
        lower = 0.0 if number == 0 else lower
        SubElement(
            ranges, "range", lower=f"{lower:.6f}", upper=f"{upper:.6f}", symbol=str(number),
            label=f"probability to {upper:.2f}", render="true",
        )  # fmt: skip
        symbols.append(_fill(str(number), ",".join(map(str, colours[number]))))
    return [renderer, _label("id")]


def style_accepted() -> Style:
    """Accepted changes by verdict, each with its number."""
    return _style_categories("verdict", VERDICTS, "undecided")


def style_kinds() -> Style:
    """Compared changes by what became of them, each with its number."""
    return _style_categories("kind", KINDS, "kept")


def _style_categories(attribute: str, colours: Mapping[str, str], others: str) -> Style:
    renderer = Element(
        "renderer-v2", type="categorizedSymbol", attr=attribute, symbollevels="0", forceraster="0",
        enableorderby="0",
    )  # fmt: skip
    categories, symbols = SubElement(renderer, "categories"), SubElement(renderer, "symbols")
    for number, (value, colour) in enumerate(colours.items()):
        SubElement(
            categories, "category", value=value, symbol=str(number), render="true",
            label=value or others,
        )  # fmt: skip
        symbols.append(_fill(str(number), colour))
    return [renderer, _label("id")]


def to_hex(colour: Iterable[int]) -> str:
    """Red, green, blue from 0 to 255 as ``#rrggbb``."""
    return "#" + "".join(f"{part:02x}" for part in colour)


def to_qml(style: Style) -> bytes:
    """A style as a QML file, which QGIS takes where it lies beside a layer."""
    root = Element("qgis", version=VERSION, styleCategories="AllStyleCategories", labelsEnabled="1")
    root.extend(style)
    return b"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + tostring(root)


def add_style(package: sqlite3.Connection, layer: str, style: Style) -> None:
    """Writes a style into a GeoPackage that has none, as the default of a layer."""
    with package:
        package.execute(_TABLE)
        package.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, last_change, srs_id) "
            "VALUES ('layer_styles', 'attributes', 'layer_styles', ?, 0)",
            [_DATE],
        )
        package.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, "
            "f_geometry_column, styleName, styleQML, styleSLD, useAsDefault, description, owner, "
            "update_time) VALUES ('', '', ?, 'geom', 'ctma', ?, '', 1, '', 'ctma', ?)",
            [layer, to_qml(style).decode(), _DATE],
        )


def _renderer(kind: str, **attributes: str) -> Element:
    described = {"type": kind, "opacity": "1", "alphaBand": "-1", "nodataColor": ""}
    return Element("rasterrenderer", described | attributes)


def _pipe(renderer: Element) -> Element:
    pipe = Element("pipe")
    pipe.append(renderer)
    return pipe


def _stretch(renderer: Element, name: str, one: Range) -> None:
    stretch = SubElement(renderer, name)
    SubElement(stretch, "minValue").text = repr(one.low)
    SubElement(stretch, "maxValue").text = repr(one.high)
    SubElement(stretch, "algorithm").text = "StretchToMinimumMaximum"


def _fill(name: str, colour: str) -> Element:
    """A clear area with an outline in a colour."""
    symbol = Element("symbol", type="fill", name=name, alpha="1", clip_to_extent="1", force_rhr="0")
    layer = SubElement(symbol, "layer", {"class": "SimpleFill"}, enabled="1", locked="0")
    layer.set("pass", "0")
    options = SubElement(layer, "Option", type="Map")
    for key, value in {
        "color": f"{colour},50",
        "outline_color": f"{colour},255",
        "outline_style": "solid",
        "outline_width": "0.5",
        "outline_width_unit": "MM",
        "style": "solid",
        "joinstyle": "round",
    }.items():
        SubElement(options, "Option", name=key, type="QString", value=value)
        SubElement(layer, "prop", k=key, v=value)
    return symbol


def _label(attribute: str) -> Element:
    labeling = Element("labeling", type="simple")
    settings = SubElement(labeling, "settings", calloutType="simple")
    text = SubElement(
        settings, "text-style", fieldName=attribute, isExpression="0", fontSize="8",
        fontSizeUnit="Point", textColor="20,20,20,255", textOpacity="1", fontFamily="Sans Serif",
    )  # fmt: skip
    SubElement(
        text, "text-buffer", bufferDraw="1", bufferSize="0.8", bufferSizeUnits="MM",
        bufferColor="255,255,255,255", bufferOpacity="1",
    )  # fmt: skip
    SubElement(settings, "placement", placement="1", dist="1", distUnits="MM", priority="5")
    SubElement(
        settings, "rendering", drawLabels="1", scaleVisibility="1", scaleMin="0", scaleMax="25000",
        obstacle="1", fontMinPixelSize="3", fontMaxPixelSize="10000",
    )  # fmt: skip
    return labeling

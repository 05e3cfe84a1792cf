"""A map opens in QGIS by double click: project, styles, CRS; also after its folder was moved."""

import zipfile

import numpy as np
import pytest
from PIL import Image
from rasterio.crs import CRS
from rasterio.transform import from_origin

from support.maps import make_map
from support.qgis import needs_qgis, open_in_qgis

SQUARES = [(10, 12, 10, 200), (60, 20, 12, 180), (30, 70, 14, 160)]
SIZE = (110, 100)
NAMES = ["changes", "mask", "probability", "after", "before"]


def text_of(project):
    with zipfile.ZipFile(project) as archive:
        return archive.read("map.qgs").decode()


@needs_qgis
def test_the_project_opens_all_layers_in_order_styled_and_placed(tmp_path):
    made = make_map(tmp_path / "first", SIZE, SQUARES)
    (tmp_path / "first").rename(tmp_path / "moved")
    folder = tmp_path / "moved" / made.name
    opened, *alone = open_in_qgis(
        folder / "map.qgz", folder / "changes.gpkg", folder / "probability.tif", folder / "mask.tif"
    )
    assert opened["crs"] == "EPSG:32643"
    assert [layer["name"] for layer in opened["layers"]] == NAMES
    assert opened["shown"] == ["changes", "probability", "after", "before"]
    for layer in opened["layers"]:
        assert (layer["valid"], layer["crs"], layer["wkt"]) == (True, "EPSG:32643", True)
    renderers = [layer["renderer"] for layer in opened["layers"]]
    assert renderers == [
        "QgsGraduatedSymbolRenderer", "QgsPalettedRasterRenderer",
        "QgsSingleBandPseudoColorRenderer", "QgsMultiBandColorRenderer",
        "QgsMultiBandColorRenderer",
    ]  # fmt: skip
    # The files carry their style alone too.
    assert [layer["renderer"] for layer in alone] == [renderers[0], renderers[2], renderers[1]]
    assert opened["layers"][0]["labels"]
    picture = np.asarray(Image.open(folder / "map.qgz.png").convert("RGB")).astype(int)
    red = picture[..., 0] - picture[..., 2]
    assert (red > 60).mean() > 0.01  # outlines and the ramp; the dates are grey


@needs_qgis
@pytest.mark.parametrize("form", ["geojson", "fgb"])
def test_other_formats_and_grey_dates_in_an_own_crs_open_too(tmp_path, form):
    lambert = CRS.from_proj4("+proj=lcc +lat_1=44 +lat_2=49 +lat_0=46.5 +lon_0=3 +ellps=GRS80")
    made = make_map(
        tmp_path, SIZE, SQUARES, crs=lambert, transform=from_origin(10_000, 20_000, 0.5, 0.5),
        bands=(1, 1, 1), polygon_format=form,
    )  # fmt: skip
    (opened,) = open_in_qgis(made / "map.qgz")
    assert all(layer["valid"] and layer["wkt"] for layer in opened["layers"])


def test_the_project_names_files_by_their_way_and_equal_maps_are_equal_bytes(tmp_path):
    made = make_map(tmp_path, SIZE, SQUARES)
    text = text_of(made / "map.qgz")
    for source in ("./changes.gpkg|layername=changes", "./mask.tif", "../before.tif"):
        assert f"<datasource>{source}</datasource>" in text
    assert str(tmp_path) not in text
    first = {path.name: path.read_bytes() for path in made.iterdir() if path.suffix != ".json"}
    make_map(tmp_path, SIZE, SQUARES)
    assert {name: (made / name).read_bytes() for name in first} == first


def test_names_cannot_break_out_of_the_project(tmp_path):
    names = ("</datasource>&.tif".replace("/", "_"), "\"'<x>.tif")
    made = make_map(tmp_path, SIZE, SQUARES, names)
    assert "<x>" not in text_of(made / "map.qgz")

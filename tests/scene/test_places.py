"""Where rasters lie, how they may be named, and which files are never replaced."""

import zipfile

import numpy as np
import pytest
from PIL import Image

rasterio = pytest.importorskip("rasterio")

from rasterio.crs import CRS  # noqa: E402
from rasterio.transform import from_bounds  # noqa: E402
from rasterio.warp import transform, transform_bounds  # noqa: E402

from ctma import ChangeLogits  # noqa: E402
from ctma.errors import SceneError  # noqa: E402
from support.commands import refused  # noqa: E402
from support.scenes import Neighbourhood, predict_scene, read, smooth, write_links, write_raster  # noqa: E402

SIDE = 120


class Difference(Neighbourhood):
    """Says change where the dates differ by more than a sixth."""

    def forward(self, before, after):
        return ChangeLogits(60 * (after - before).abs().amax(dim=1, keepdim=True) - 10)


def ground(path, crs, bounds):
    """A raster of waves on the ground, the same in every CRS."""
    place = from_bounds(*bounds, SIDE, SIDE)
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    x, y = place @ (columns.ravel(), rows.ravel())
    longitude, latitude = map(np.array, transform(crs, CRS.from_epsg(4326), x, y))
    waves = np.sin((longitude % 360) * 3e4) + np.sin(latitude * 3e4)
    pixels = (128 + 60 * waves).reshape(1, SIDE, SIDE).repeat(3, axis=0).astype(np.uint8)
    return write_raster(path, pixels, place, crs)


@pytest.mark.parametrize("degrees_first", [False, True])
@pytest.mark.parametrize(
    ("code", "west"),
    [(32760, 179.9995), (32701, 179.9995), (32701, -180.0005), (3832, 179.9995), (32614, 261.0)],
)
def test_degrees_and_metres_meet_at_any_count_of_longitudes(tmp_path, code, west, degrees_first):
    # The projected raster lies inside the other, which counts its longitudes in its own way.
    box = (west, -16.001, west + 0.001, -16.0)
    inner = (west + 1e-4, -16.0009, west + 9e-4, -16.0001)
    crs = CRS.from_epsg(code)
    projected = ground(
        tmp_path / "m.tif", crs, transform_bounds("EPSG:4326", crs, *inner, densify_pts=21)
    )
    degrees = ground(tmp_path / "d.tif", CRS.from_epsg(4326), box)
    pair = (degrees, projected) if degrees_first else (projected, degrees)
    lines = []
    result = predict_scene(*pair, Difference().eval(), tmp_path / "out", on_warning=lines.append)
    mask = read(result.mask)
    assert (mask == 255).mean() < 0.04, "only the rim, where pixels are not whole"
    assert (mask == 1).mean() < 0.01
    outside = result.summary["before" if degrees_first else "after"]["outside_share"]
    assert 0.2 < outside < 0.5
    assert not lines


def test_a_map_without_any_pixel_in_both_dates_is_said(tmp_path):
    halves = []
    for name, half in (("a", np.s_[:, :, :60]), ("b", np.s_[:, :, 60:])):
        pixels = smooth(1, SIDE, SIDE).clip(1)
        pixels[half] = 0
        halves.append(write_raster(tmp_path / f"{name}.tif", pixels, nodata=0))
    lines = []
    predict_scene(*halves, Difference().eval(), tmp_path / "out", on_warning=lines.append)
    assert any("no pixel has data in both dates" in line for line in lines)


def test_two_local_crs_are_not_one(tmp_path):
    pair = [
        write_raster(tmp_path / f"{n}.tif", smooth(1, 64, 64), crs=CRS.from_wkt(
            f'LOCAL_CS["site {n}",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]'
        ))
        for n in (1, 2)
    ]  # fmt: skip
    predict_scene(pair[0], pair[0], Difference().eval(), tmp_path / "same")
    with pytest.raises(SceneError, match="one local CRS to another"):
        predict_scene(*pair, Difference().eval(), tmp_path / "out")


def plain(path, place):
    """An image with a transform, but no CRS."""
    return write_raster(path, smooth(1, 64, 64), place, crs=None)


@pytest.mark.parametrize(
    "bounds", [(48, 0, 80, 32), (0, 0, 64, 64)], ids=["48 m apart", "other pixels"]
)
def test_transforms_that_disagree_are_refused_unless_ignored(ctma, tmp_path, tiny_model, bounds):
    before = plain(tmp_path / "a.tif", from_bounds(0, 0, 32, 32, 64, 64))
    after = plain(tmp_path / "b.tif", from_bounds(*bounds, 64, 64))
    command = ("predict", before, after, "-c", tiny_model, "-o", tmp_path / "out")
    refused(ctma, ("place them apart", "--ignore-georeference"), *command)
    shown = ctma(*command, "--ignore-georeference")
    assert "transform" not in shown.stderr
    assert (tmp_path / "out/mask/a.png").is_file()


@pytest.mark.parametrize("name", ["town.PGW", "town.pgw", "town[1].pgw"])
def test_the_transform_of_an_image_is_seen_whatever_its_file_is_called(
    ctma, tmp_path, tiny_model, name
):
    image = tmp_path / f"{name.rpartition('.')[0]}.png"
    Image.fromarray(smooth(1, 64, 64).transpose(1, 2, 0)).save(image)
    (tmp_path / name).write_text("0.5\n0\n0\n-0.5\n500000\n4000000\n")
    shown = ctma("predict", image, image, "-c", tiny_model, "-o", tmp_path / "out")
    assert "a transform without a CRS" in shown.stderr


@pytest.mark.parametrize("nested", [False, True])
def test_the_sources_of_a_mosaic_are_never_replaced(ctma, tmp_path, tiny_model, nested):
    pair = [write_raster(tmp_path / f"{n}.tif", smooth(n, 100, 100)) for n in (1, 2)]
    ctma("predict", *pair, "-c", tiny_model, "-o", tmp_path / "out")
    map_before = (tmp_path / "out/probability.tif").read_bytes()
    mosaic = write_links(
        tmp_path / "m.vrt", tmp_path / "out/probability.tif", (100, 100), (1, 1, 1)
    )
    if nested:
        mosaic = write_links(tmp_path / "n.vrt", mosaic, (100, 100))
    refused(
        ctma, "is an input and would be replaced",
        "predict", pair[0], mosaic, "-c", tiny_model, "-o", tmp_path / "out", "--overwrite",
    )  # fmt: skip
    assert (tmp_path / "out/probability.tif").read_bytes() == map_before


def test_addresses_that_gdal_knows_are_taken(ctma, tmp_path, tiny_model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pair = [write_raster(tmp_path / f"{n}.tif", smooth(n, 100, 100)) for n in (1, 2)]
    with zipfile.ZipFile("both.zip", "w") as archive:
        archive.write("1.tif")
    expected = None
    for number, before in enumerate(
        (pair[0], "GTIFF_DIR:1:1.tif", f"file://{pair[0]}", f"zip://{tmp_path}/both.zip!1.tif",
         f"FILE://{pair[0]}", "/vsizip/both.zip/1.tif")
    ):  # fmt: skip
        ctma("predict", before, pair[1], "-c", tiny_model, "-o", f"out{number}")
        found = read(tmp_path / f"out{number}/probability.tif")
        expected = found if expected is None else expected
        assert (found == expected).all(), before


def test_a_file_of_several_variables_lists_them(ctma, tmp_path, tiny_model):
    xarray = pytest.importorskip("xarray")
    path = tmp_path / "f.nc"
    band = smooth(1, 40, 40)[0].astype(np.float32)
    values = dict.fromkeys(("red", "blue"), (("y", "x"), band))
    xarray.Dataset(values).to_netcdf(path, engine="scipy")
    expected = ("holds no bands itself", "name one of its rasters", ":red", ":blue")
    refused(ctma, expected, "predict", path, path, "-c", tiny_model, "-o", tmp_path / "out")


def test_a_jpeg_2000_without_a_crs_is_an_image(ctma, tmp_path, tiny_model):
    images = []
    for n in (1, 2):
        images.append(tmp_path / f"{n}.jp2")
        Image.fromarray(smooth(n, 96, 96).transpose(1, 2, 0)).save(images[-1])
    ctma("predict", *images, "-c", tiny_model, "-o", tmp_path / "out")
    assert (tmp_path / "out/mask/1.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PROJ_LIB", "/nowhere", "unset PROJ_LIB=/nowhere, which may be of another installation"),
        ("PROJ_DATA", "/nowhere", "unset PROJ_DATA=/nowhere"),
        ("GDAL_SKIP", "COG", "no driver COG; the variable GDAL_SKIP (COG)"),
        ("GDAL_SKIP", "GPKG", "no driver GPKG; the variable GDAL_SKIP (GPKG)"),
    ],
)
def test_variables_of_other_installations_are_named(
    ctma_alone, tiny_model, tmp_path, variable, value, said
):
    pair = [write_raster(tmp_path / f"{n}.tif", smooth(n, 64, 64)) for n in (1, 2)]
    arguments = ("predict", *pair, "-c", tiny_model, "-o", tmp_path / "OUT")
    line = ctma_alone(*arguments, code=2, env={variable: value}).stderr
    assert said in line
    assert "Traceback" not in line


def test_an_output_that_is_a_file_or_no_text_is_one_line(ctma, tiny_model, tmp_path):
    pair = [write_raster(tmp_path / f"{n}.tif", smooth(n, 64, 64)) for n in (1, 2)]
    (tmp_path / "file").touch()
    for output, said in ((tmp_path / "file", "is a file"), (f"{tmp_path}/o\udcff", "UTF-8")):
        run = ctma("predict", *pair, "-c", tiny_model, "-o", output, code=2)
        assert said in run.stderr

"""Two rasters in, a georeferenced change map and polygons out."""

import json
import shutil
import subprocess
import sys
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

rasterio = pytest.importorskip("rasterio")
geopandas = pytest.importorskip("geopandas")

from rasterio.crs import CRS  # noqa: E402
from rasterio.features import shapes  # noqa: E402
from rasterio.shutil import copy as copy_raster  # noqa: E402
from rasterio.transform import Affine, from_origin  # noqa: E402
from rasterio.warp import Resampling, reproject  # noqa: E402

import ctma as package  # noqa: E402
from ctma import CtmaWarning, SceneSettings, Tiling, create_model, save_model  # noqa: E402
from ctma.errors import MissingExtraError, OutputError, SceneError, SettingError, UnknownNameError  # noqa: E402
from ctma.scene.blending import axis  # noqa: E402
from ctma.scene.grid import Grid, common_grid, measure_distance  # noqa: E402
from ctma.scene.polygons import GroundArea, Tracer, on_grid  # noqa: E402
from ctma.scene.source import Source  # noqa: E402
from ctma.scene.writing import RASTERS  # noqa: E402
from support import ROOT, SHARED_DATA  # noqa: E402
from support.commands import refused  # noqa: E402
from support.maps import make_map, paint_many  # noqa: E402
from support.scenes import (  # noqa: E402
    UTM,
    Neighbourhood,
    as_array,
    predict_scene,
    read,
    smooth,
    trained_at,
    write_raster,
)


@pytest.fixture
def pair(tmp_path):
    return (
        write_raster(tmp_path / "before.tif", smooth(1, 300, 420)),
        write_raster(tmp_path / "after.tif", smooth(2, 300, 420)),
    )


# Windows and weights


@given(
    length=st.integers(1, 3000),
    size=st.integers(64, 600),
    margin=st.integers(0, 20),
    ramp=st.integers(0, 20),
    stride=st.sampled_from([1, 8, 16, 32]),
)
@settings(max_examples=300, deadline=None)
def test_weights_sum_to_one_and_never_use_a_margin(length, size, margin, ramp, stride):
    tiling = Tiling(size=size, margin=margin, ramp=ramp)
    found = axis(length, tiling, stride)
    assert found.side <= 1.5 * size + 2 * stride
    assert found.origins[0] == 0
    assert not any(origin % stride for origin in found.origins[:-1])
    assert sorted({*found.origins}) == found.origins
    assert found.origins[-1] + found.side == length
    total = np.zeros(length)
    for origin, weights in zip(found.origins, found.weights, strict=True):
        total[origin : origin + found.side] += weights
        if origin > 0:
            assert (weights[:margin] == 0).all()
        if origin + found.side < length:
            assert (weights[found.side - margin :] == 0).all()
    np.testing.assert_allclose(total, 1, atol=1e-6)


@pytest.mark.parametrize("size", [(300, 420), (130, 700), (64, 64), (40, 50)])
def test_the_blended_scene_is_the_network_on_the_whole_scene(size):
    network = Neighbourhood().eval()
    images = [smooth(seed, *size) for seed in (1, 2)]
    scenes = [as_array(image) for image in images]
    blended = package.predict_xarray(
        *scenes, network, tiling=Tiling(size=96, margin=8, ramp=16)
    ).to_numpy()
    with torch.no_grad():
        inputs = (torch.from_numpy(image)[None] / 255 for image in images)
        padded = [
            torch.nn.functional.pad(
                i, (0, max(0, 64 - size[1]), 0, max(0, 64 - size[0])), "replicate"
            )
            for i in inputs
        ]
        expected = network(*padded).fine[0, 0, : size[0], : size[1]].sigmoid().numpy()
    np.testing.assert_allclose(blended, expected, atol=1e-6)


def test_a_coarser_scene_is_seen_at_the_distance_the_network_was_trained_at(tmp_path):
    network = trained_at(0.5)
    images = [smooth(seed, 200, 280) for seed in (1, 2)]
    transform = from_origin(500_000, 4_000_000, 1, 1)
    paths = [
        write_raster(tmp_path / f"{number}.tif", image, transform)
        for number, image in enumerate(images)
    ]
    tiling = Tiling(size=192, margin=24, ramp=32)
    result = predict_scene(*paths, network, tmp_path / "out", tiling=tiling)
    assert result.summary["ground_sample_distance"] == pytest.approx(1, abs=1e-3)
    assert result.summary["enlargement"] == pytest.approx(2, abs=1e-3)

    def resized(batch, size):
        return torch.nn.functional.interpolate(batch, size, mode="bilinear", antialias=True)

    with torch.no_grad():
        seen = (resized(torch.from_numpy(image)[None] / 255, (400, 560)) for image in images)
        expected = resized(network(*seen).fine, (200, 280))[0, 0].sigmoid().numpy()
    np.testing.assert_allclose(read(result.probability) / 250, expected, atol=0.01)
    scenes = [as_array(image).rio.write_transform(transform) for image in images]
    lazy = package.predict_xarray(*scenes, network, tiling=tiling)
    np.testing.assert_allclose(lazy.to_numpy(), expected, atol=0.01)
    assert lazy.attrs["enlargement"] == result.summary["enlargement"]
    as_it_is = package.predict_xarray(*scenes, network, ground_sample_distance=0.5)
    assert as_it_is.attrs["enlargement"] == 1


@pytest.mark.parametrize(
    ("crs", "pixel", "north", "metres"),
    [
        ("EPSG:4326", 1e-5, 0.0, 1.109),
        ("EPSG:4326", 1e-5, 60.0, 0.788),
        ("EPSG:3857", 2.0, 8_399_738.0, 1.0),
        ("EPSG:32643", 1.5, 4_000_000.0, 1.5),
    ],
)
def test_the_ground_sample_distance_is_measured_on_the_ground(crs, pixel, north, metres):
    west = 10 if crs == "EPSG:4326" else 500_000
    grid = Grid(CRS.from_string(crs), from_origin(west, north, pixel, pixel), 10, 10)
    assert measure_distance(grid) == pytest.approx(metres, rel=6e-3)


def test_a_distance_for_weights_that_do_not_know_their_own_is_refused(pair, tmp_path):
    with pytest.raises(SettingError, match="ctma convert"):
        predict_scene(*pair, Neighbourhood().eval(), tmp_path / "out", ground_sample_distance=1.0)


@pytest.mark.slow
def test_a_given_ground_sample_distance_overrules_the_grid(pair, tmp_path):
    network = trained_at(0.5)
    plain, same = (
        predict_scene(*pair, network, tmp_path / name, ground_sample_distance=distance)
        for name, distance in (("plain", None), ("same", 0.55))
    )
    reduced = predict_scene(*pair, network, tmp_path / "fine", ground_sample_distance=0.25)
    with pytest.raises(SettingError, match="`ground_sample_distance` 0"):
        predict_scene(*pair, network, tmp_path / "none", ground_sample_distance=0.0)
    assert not (tmp_path / "none").exists()
    assert plain.summary["enlargement"] == same.summary["enlargement"] == 1
    assert reduced.summary["enlargement"] == 0.5
    assert (read(plain.probability) == read(same.probability)).all()
    assert (read(plain.probability) != read(reduced.probability)).any()


def test_pixels_too_coarse_for_the_network_are_seen_as_they_are_with_a_warning(pair, tmp_path):
    warnings = []
    result = predict_scene(*pair, trained_at(0.1), tmp_path / "out", on_warning=warnings.append)
    assert result.summary["enlargement"] == 1
    assert any("pixels of 0.5 m" in line and "0.1 m" in line for line in warnings)


def test_a_window_too_small_for_its_margin_is_refused():
    with pytest.raises(SettingError, match="`tiling` of size 40"):
        Tiling(size=40, margin=16, ramp=16)


# One grid


def test_the_share_outside_a_rotated_raster_counts_its_pixels_not_its_box(tmp_path):
    turned = from_origin(1000, 2000, 1, 1) @ Affine.rotation(45)
    wide = write_raster(tmp_path / "w.tif", smooth(1, 400, 400), from_origin(800, 2200, 1, 1))
    after = write_raster(tmp_path / "a.tif", smooth(2, 100, 100), turned)
    with rasterio.open(wide) as w, rasterio.open(after) as a:
        overlap = common_grid(w, a)
    box = overlap.grid.width * overlap.grid.height
    assert overlap.outside_before == pytest.approx(1 - box / 400**2, abs=1e-9)
    assert overlap.outside_after < 0.02


def test_the_common_grid_is_the_intersection_on_the_pixels_of_before(tmp_path):
    before = write_raster(tmp_path / "b.tif", smooth(1, 100, 100), from_origin(1000, 2000, 1, 1))
    after = write_raster(
        tmp_path / "a.tif", smooth(2, 90, 80), from_origin(1010.4, 1995.3, 1.1, 1.1)
    )
    with rasterio.open(before) as b, rasterio.open(after) as a:
        overlap = common_grid(b, a)
        finest = common_grid(b, a, "finest")
        other = common_grid(b, a, "after")
    assert overlap.grid.transform == from_origin(1011, 1995, 1, 1)
    assert (overlap.grid.width, overlap.grid.height) == (87, 95)
    assert overlap.outside_before == pytest.approx(1 - 87 * 95 / 1e4)
    assert overlap.outside_after == pytest.approx(1 - 87 * 95 / (88 * 99))
    assert finest.grid == overlap.grid
    assert other.grid.transform.a == 1.1


def test_the_finest_pixels_are_found_across_projections(tmp_path):
    before = write_raster(tmp_path / "b.tif", smooth(1, 200, 200), from_origin(5e5, 5e6, 1, 1))
    polar = CRS.from_epsg(3413)
    xs, ys = rasterio.warp.transform(UTM, polar, [500_100], [4_999_900])
    corner = from_origin(xs[0] - 100, ys[0] + 100, 0.9, 0.9)
    after = write_raster(tmp_path / "a.tif", smooth(2, 222, 222), corner, polar)
    with rasterio.open(before) as b, rasterio.open(after) as a:
        assert common_grid(b, a, "finest").grid.crs == polar
        assert common_grid(a, b, "finest").grid.crs == polar


def test_warping_on_the_fly_is_what_gdal_warps(tmp_path):
    pixels = smooth(3, 120, 130)
    path = write_raster(tmp_path / "a.tif", pixels, from_origin(500_010.3, 3_999_990.8, 0.7, 0.7))
    crs = CRS.from_epsg(32642)
    with rasterio.open(path) as raster:
        bounds = rasterio.warp.transform_bounds(raster.crs, crs, *raster.bounds)
        transform = from_origin(bounds[0] + 20, bounds[3] - 20, 0.6, 0.6)
        grid = Grid(crs, transform, 60, 50)
        expected = np.zeros((3, 50, 60), np.uint8)
        reproject(
            rasterio.band(raster, [1, 2, 3]), expected, dst_transform=transform,
            dst_crs=crs, resampling=Resampling.bilinear,
        )  # fmt: skip
        source = Source(rasterio.open(path), grid, [1, 2, 3])
        values, valid = source.read(rasterio.windows.Window(0, 0, 60, 50))
    assert valid.all()
    assert np.abs(values.astype(int) - expected).max() <= 1


SCENES = SHARED_DATA / "scenes"


@pytest.mark.skipif(not SCENES.is_dir(), reason="the real scenes are not here")
@pytest.mark.skipif(shutil.which("gdalwarp") is None, reason="gdalwarp is not here")
@pytest.mark.parametrize(
    ("before", "after"),
    [("vhr_town_t1", "vhr_town_t2"), ("naip_wetland_2009", "naip_wetland_2017")],
)
def test_real_dates_come_out_on_one_grid_as_gdalwarp_has_it(tmp_path, before, after):
    with (
        rasterio.open(SCENES / f"{before}.tif") as b,
        rasterio.open(SCENES / f"{after}.tif") as a,
    ):
        grid = common_grid(b, a).grid
        west, south, east, north = (str(edge) for edge in grid.bounds)
        warped = tmp_path / "warped.tif"
        subprocess.run(
            ["gdalwarp", "-q", "-r", "bilinear", "-te", west, south, east, north,
             "-ts", str(grid.width), str(grid.height), a.name, str(warped)],
            check=True,
        )  # fmt: skip
        with Source(a, grid, [1, 2, 3]) as source, rasterio.open(warped) as expected:
            values, valid = source.read(rasterio.windows.Window(0, 0, grid.width, grid.height))
            wanted = expected.read([1, 2, 3]).astype(float)
            assert values.shape == wanted.shape
            inside = valid & (wanted > 0).all(axis=0)
    assert inside.mean() > 0.9
    span = np.percentile(wanted[:, inside], 99)
    assert np.abs(values - wanted)[:, inside].max() < 0.01 * span


def test_other_projections_and_resolutions_give_one_map(tmp_path):
    before = write_raster(
        tmp_path / "b.tif", smooth(1, 150, 150), from_origin(500_000, 4_000_000, 2, 2)
    )
    with rasterio.open(before) as raster:
        west, south, east, north = rasterio.warp.transform_bounds(UTM, "EPSG:4326", *raster.bounds)
    degrees = from_origin(west, north, (east - west) / 200, (north - south) / 200)
    after = write_raster(tmp_path / "a.tif", smooth(2, 200, 200), degrees, CRS.from_epsg(4326))
    result = predict_scene(before, after, Neighbourhood().eval(), tmp_path / "out")
    with rasterio.open(result.mask) as raster:
        assert raster.crs == UTM
        assert raster.transform.a == 2
    assert result.summary["after"]["outside_share"] < 0.05


# Registration


@pytest.mark.slow
@pytest.mark.parametrize("planted", [(7.4, 0.0), (-5.3, 6.7)])
def test_a_planted_shift_is_found_and_taken_out(tmp_path, planted):
    columns, rows = planted
    before = write_raster(tmp_path / "b.tif", smooth(1, 400, 400), from_origin(5e5, 4e6, 1, 1))
    # The same ground, drawn too far to the right and too low, with another light.
    with rasterio.open(before) as raster:
        shifted = np.zeros((3, 400, 400), np.uint8)
        away = from_origin(5e5 - columns, 4e6 + rows, 1, 1)
        reproject(
            rasterio.band(raster, [1, 2, 3]), shifted, dst_transform=away, dst_crs=UTM,
            resampling=Resampling.bilinear,
        )  # fmt: skip
    after = write_raster(
        tmp_path / "a.tif", (shifted * 0.7).astype(np.uint8), from_origin(5e5, 4e6, 1, 1), nodata=0
    )
    network = Neighbourhood().eval()
    warnings = []
    result = predict_scene(before, after, network, tmp_path / "out", on_warning=warnings.append)
    found = result.summary["shift_pixels"]
    assert found["columns"] == pytest.approx(columns, abs=0.2)
    assert found["rows"] == pytest.approx(rows, abs=0.2)
    assert "shifted by" in warnings[0]
    mended = predict_scene(
        before, after, network, tmp_path / "mended", coregister=True, scale=(0, 255)
    )
    assert mended.summary["coregistered"]
    still = predict_scene(before, before, network, tmp_path / "still")
    assert still.summary["shift_pixels"] == {"columns": 0, "rows": 0}


def test_a_shift_is_found_where_a_twentieth_of_the_scene_is_valid(tmp_path):
    ground = smooth(1, 800, 800).clip(1)
    names = []
    for name, (columns, rows) in (("b", (0, 0)), ("a", (6, -4))):
        sparse = np.zeros_like(ground)
        sparse[:, 300:480, 200:380] = np.roll(ground, (rows, columns), (1, 2))[:, 300:480, 200:380]
        names.append(write_raster(tmp_path / f"{name}.tif", sparse, nodata=0))
    network = Neighbourhood().eval()
    found = predict_scene(*names, network, tmp_path / "out").summary["shift_pixels"]
    assert found == pytest.approx({"columns": 6, "rows": -4}, abs=0.2)


def test_where_no_shift_stands_out_none_is_believed(tmp_path, pair):
    warnings = []
    network = Neighbourhood().eval()
    result = predict_scene(*pair, network, tmp_path / "out", on_warning=warnings.append)
    assert result.summary["shift_pixels"] is None
    assert warnings == []
    with pytest.raises(SceneError, match="no shift between them stands out"):
        predict_scene(*pair, network, tmp_path / "moved", coregister=True)


def test_a_shift_of_a_part_of_the_scene_is_not_believed(tmp_path):
    """As of roofs that lean: more than half of the scene moves, the rest stays."""
    ground = smooth(1, 400, 420)
    moved = ground[:, :, :400].copy()
    moved[:, :230] = ground[:, :230, 8:408]
    before = write_raster(tmp_path / "b.tif", ground[:, :, :400])
    after = write_raster(tmp_path / "a.tif", moved)
    network = Neighbourhood().eval()
    assert predict_scene(before, after, network, tmp_path / "out").summary["shift_pixels"] is None
    with pytest.raises(SceneError, match="most of the scene"):
        predict_scene(before, after, network, tmp_path / "moved", coregister=True)


# Radiometry and holes


def test_one_scaling_a_date_from_percentiles_over_the_whole_scene(tmp_path, pair):
    bright = (smooth(2, 300, 420).astype(np.float32) / 40).astype(np.float32)
    after = write_raster(tmp_path / "float.tif", bright)
    result = predict_scene(pair[0], after, Neighbourhood().eval(), tmp_path / "out")
    assert result.summary["before"]["scaling"] == {"low": [0.0] * 3, "high": [255.0] * 3}
    scaling = result.summary["after"]["scaling"]
    expected = np.percentile(bright.reshape(3, -1), (1, 99), axis=1)
    np.testing.assert_allclose(scaling["low"], expected[0], rtol=0.02)
    np.testing.assert_allclose(scaling["high"], expected[1], rtol=0.02)


@pytest.mark.parametrize("kind", ["nodata", "nan", "alpha"])
def test_holes_stay_nodata(tmp_path, pair, kind):
    pixels = smooth(2, 300, 420)
    hole = np.s_[:, 50:150, 200:330]
    if kind == "nodata":
        pixels[hole] = 0
        after = write_raster(tmp_path / "h.tif", pixels, nodata=0)
    elif kind == "nan":
        pixels = pixels.astype(np.float32)
        pixels[hole] = np.nan
        after = write_raster(tmp_path / "h.tif", pixels)
    else:
        alpha = np.full((1, 300, 420), 255, np.uint8)
        alpha[hole] = 0
        after = write_raster(
            tmp_path / "h.tif", np.concatenate([pixels, alpha]), photometric="RGB", alpha="yes"
        )
    result = predict_scene(
        pair[0],
        after,
        Neighbourhood().eval(),
        tmp_path / "out",
        tiling=Tiling(size=128, margin=8, ramp=16),
    )
    for path in (result.probability, result.mask):
        nodata = read(path) == 255
        expected = np.zeros((300, 420), bool)
        expected[hole[1:]] = True
        assert (nodata == expected).all()
    assert result.summary["valid_pixels"] == 300 * 420 - 100 * 130


def test_a_hole_in_one_date_is_shown_in_both(pair, tmp_path):
    class Difference(Neighbourhood):
        def forward(self, before, after):
            return package.ChangeLogits(60 * (after - before).abs().amax(dim=1, keepdim=True) - 9)

    pixels = smooth(1, 300, 420)
    pixels[:, :, :140] = 0
    after = write_raster(tmp_path / "h.tif", pixels, nodata=0)
    seen = []
    network = Difference().eval()
    network.register_forward_hook(lambda _, inputs, __: seen.append(inputs[1] - inputs[0]))
    result = predict_scene(pair[0], after, network, tmp_path / "out")
    assert result.summary["changed_pixels"] == 0
    assert all((difference == 0).all() for difference in seen)


@pytest.mark.parametrize("warped", [False, True])
@pytest.mark.parametrize("said", ["tagged", "given"])
def test_a_hole_in_one_band_is_a_hole(tmp_path, warped, said):
    pixels = smooth(2, 300, 420).astype(np.uint16) + 10
    pixels[1, 50:150, 200:330] = 3
    shift = 0.1 if warped else 0.0
    place = from_origin(500_000 - shift, 4_000_000 + shift, 0.5, 0.5)
    after = write_raster(tmp_path / "h.tif", pixels, place, nodata=3 if said == "tagged" else None)
    options = {} if said == "tagged" else {"nodata": 3}
    before = write_raster(tmp_path / "b.tif", smooth(1, 300, 420).clip(10))
    result = predict_scene(before, after, Neighbourhood().eval(), tmp_path / "out", **options)
    assert result.plan.after.scaling.low[1] > 5, "holes have no part in the percentiles"
    hole = read(result.mask)[50:150, 200:330] == 255
    assert hole[1:-1, 1:-1].all()
    left_out = 300 * 420 - result.summary["valid_pixels"]
    assert 100 * 130 <= left_out <= 102 * 132 + 2 * 720 * warped


def test_every_band_may_have_a_nodata_value_of_its_own(tmp_path, pair):
    pixels = smooth(2, 300, 420)
    for band, value in enumerate((7, 8, 9)):
        pixels[band][pixels[band] == value] = 10
        pixels[band, 20 * band + 100 : 20 * band + 110, :100] = value
    stacked = write_raster(tmp_path / "s.tif", pixels)
    with rasterio.open(stacked) as raster:
        parts = [
            f'<VRTRasterBand dataType="Byte" band="{band}"><NoDataValue>{6 + band}</NoDataValue>'
            f"<SimpleSource><SourceFilename>{stacked}</SourceFilename><SourceBand>{band}"
            "</SourceBand></SimpleSource></VRTRasterBand>"
            for band in (1, 2, 3)
        ]
        place = ", ".join(map(str, raster.transform.to_gdal()))
    vrt = tmp_path / "s.vrt"
    vrt.write_text(
        f'<VRTDataset rasterXSize="420" rasterYSize="300"><SRS>EPSG:32643</SRS><GeoTransform>'
        f"{place}</GeoTransform>{''.join(parts)}</VRTDataset>"
    )
    network = Neighbourhood().eval()
    result = predict_scene(pair[0], vrt, network, tmp_path / "out")
    assert result.summary["valid_pixels"] == 300 * 420 - 3 * 10 * 100
    moved = write_raster(
        tmp_path / "m.tif", smooth(1, 300, 420), from_origin(500_000.1, 4e6, 0.5, 0.5)
    )
    warped = predict_scene(moved, vrt, network, tmp_path / "warped")
    assert (read(warped.mask)[101:109, 1:98] == 255).all()
    assert (read(warped.mask)[121:129, 1:98] == 255).all()


def test_nodata_and_alpha_are_both_heeded(tmp_path, pair, recwarn):
    pixels = np.concatenate([smooth(2, 300, 420), np.full((1, 300, 420), 255, np.uint8)])
    pixels[:3, :, :140] = 0
    pixels[3, :100] = 0
    after = write_raster(tmp_path / "h.tif", pixels, photometric="RGB", alpha="yes", nodata=0)
    result = predict_scene(pair[0], after, Neighbourhood().eval(), tmp_path / "out")
    assert result.summary["valid_pixels"] == 200 * 280
    assert not [one for one in recwarn if "shadow" in str(one.message)]


# Bands


def tagged(path, pixels, kinds, **profile):
    write_raster(path, pixels, **profile)
    with rasterio.open(path, "r+") as raster:
        raster.colorinterp = [rasterio.enums.ColorInterp[kind] for kind in kinds]
    return path


@pytest.mark.slow
def test_bands_are_taken_by_what_they_are_tagged(tmp_path, pair, ctma, tiny_model):
    pixels = smooth(2, 300, 420)
    kinds = ("undefined", "blue", "green", "red")
    mixed = np.concatenate([smooth(3, 300, 420, bands=1), pixels[::-1]])
    after = tagged(tmp_path / "mixed.tif", mixed, kinds, photometric="MINISBLACK")
    network = Neighbourhood().eval()
    result = predict_scene(pair[0], after, network, tmp_path / "out")
    assert result.plan.after.bands == (4, 3, 2)
    usual = predict_scene(*pair, network, tmp_path / "usual")
    assert (read(result.probability) == read(usual.probability)).all()
    named = predict_scene(pair[0], after, network, tmp_path / "named", bands=((1, 2, 3), (2, 3, 4)))
    assert (named.plan.before.bands, named.plan.after.bands) == ((1, 2, 3), (2, 3, 4))
    command = ("predict", pair[0], after, "-c", tiny_model, "-o", tmp_path / "said")
    assert "bands of after: 4, 3, 2\n" in ctma(*command).stdout
    command = (*command[:-1], tmp_path / "given", "--bands", "3,2,1:1,2,3")
    assert "bands of before: 3, 2, 1\n" in ctma(*command).stdout
    refused(ctma, "3,2,1:1,2,3", *command[:-1], "1:2:3")


@pytest.mark.slow
@pytest.mark.parametrize("warped", [False, True])
def test_a_palette_is_its_colours_and_grey_serves_as_three(tmp_path, pair, warped):
    network = Neighbourhood().eval()
    place = from_origin(500_000, 4_000_000, 0.25, 0.25) if warped else None
    indices = smooth(4, 300, 420, bands=1) % 8
    colours = np.array([(30 * n, 255 - 20 * n, 7 * n * n % 256, 255) for n in range(8)], np.uint8)
    palette = write_raster(tmp_path / "p.tif", indices, place, photometric="palette")
    with rasterio.open(palette, "r+") as raster:
        raster.write_colormap(1, dict(enumerate(map(tuple, colours.tolist()))))
    rgb = write_raster(tmp_path / "rgb.tif", colours[indices[0], :3].transpose(2, 0, 1), place)
    grey = write_raster(tmp_path / "g.tif", smooth(5, 300, 420, bands=1), place)
    thrice = write_raster(tmp_path / "t.tif", smooth(5, 300, 420, bands=1).repeat(3, axis=0), place)
    for one, other in ((palette, rgb), (grey, thrice)):
        found = [
            predict_scene(pair[0], after, network, tmp_path / after.stem) for after in (one, other)
        ]
        maps = [read(result.probability).astype(int) for result in found]
        if warped and one is palette:  # colours between two of a palette's are nobody's
            assert found[0].summary["valid_pixels"] == found[1].summary["valid_pixels"]
        else:
            assert (maps[0] == maps[1]).all()


# Places


def test_longitudes_may_be_counted_from_0_or_from_minus_180(tmp_path):
    network = Neighbourhood().eval()
    pixels = [smooth(seed, 200, 300) for seed in (1, 2)]
    degrees = CRS.from_epsg(4326)
    east, west = (from_origin(start, 10, 1e-5, 1e-5) for start in (190.0, -170.0))
    paths = [
        write_raster(tmp_path / f"{name}.tif", image, place, degrees)
        for name, image, place in (
            ("before", pixels[0], east), ("after", pixels[1], west), ("same", pixels[1], east)
        )
    ]  # fmt: skip
    usual = predict_scene(paths[0], paths[2], network, tmp_path / "usual")
    found = predict_scene(paths[0], paths[1], network, tmp_path / "found")
    assert found.summary["after"]["outside_share"] == 0
    assert (read(found.probability) == read(usual.probability)).all()
    with rasterio.open(found.mask) as raster:
        assert raster.bounds.left == pytest.approx(190)


MOON = (
    'PROJCS["Moon",GEOGCS["Moon 2000",DATUM["D_Moon_2000",SPHEROID["Moon",1737400,0]],'
    'PRIMEM["Reference_Meridian",0],UNIT["degree",0.0174532925199433]],'
    'PROJECTION["Equirectangular"],PARAMETER["standard_parallel_1",0],'
    'PARAMETER["central_meridian",0],UNIT["metre",1]]'
)
SITE = 'LOCAL_CS["site",UNIT["foot",0.3048]]'


@pytest.mark.parametrize(("crs", "unit"), [(MOON, 1.0), (SITE, 0.3048)], ids=["moon", "site"])
def test_a_crs_of_no_place_on_earth_has_planar_areas(tmp_path, crs, unit):
    place = CRS.from_wkt(crs)
    paths = [
        write_raster(
            tmp_path / f"{seed}.tif", smooth(seed, 200, 300), from_origin(0, 0, 2, 2), place
        )
        for seed in (1, 2)
    ]
    said = []
    network = Neighbourhood().eval()
    result = predict_scene(*paths, network, tmp_path / "out", on_warning=said.append)
    assert "the CRS is tied to no place on Earth: areas are those of its plane" in said
    assert result.summary["ground_sample_distance"] == pytest.approx(2 * unit)
    pixels = int((read(result.mask) == 1).sum())
    assert result.summary["changed_area_m2"] == pytest.approx(pixels * (2 * unit) ** 2, rel=1e-3)
    with pytest.raises(SceneError, match="GeoJSON knows no other"):
        predict_scene(*paths, network, tmp_path / "json", polygon_format="geojson")
    earth = write_raster(tmp_path / "earth.tif", smooth(2, 200, 300))
    with pytest.raises(SceneError, match="onto one grid"):
        predict_scene(paths[0], earth, network, tmp_path / "mixed")


# Folders


def test_folders_of_georeferenced_tiles_give_a_map_each(tmp_path, ctma, tiny_model):
    for date in ("before", "after"):
        (tmp_path / date).mkdir()
        for number in range(2):
            place = from_origin(500_000 + 32 * number, 4_000_000, 0.5, 0.5)
            path = tmp_path / date / f"tile_{number}.tif"
            write_raster(path, smooth(number + len(date), 64, 64), place)
    command = ("predict", tmp_path / "before", tmp_path / "after", "-c", tiny_model)
    found = json.loads(ctma(*command, "-o", tmp_path / "out", "--json").stdout)
    assert [one["name"] for one in found] == ["tile_0", "tile_1"]
    for number in range(2):
        with rasterio.open(tmp_path / f"out/tile_{number}/mask.tif") as raster:
            assert raster.bounds.left == 500_000 + 32 * number
    Image.fromarray(smooth(1, 64, 64).transpose(1, 2, 0)).save(tmp_path / "before/tile_1.tif")
    Image.fromarray(smooth(1, 64, 64).transpose(1, 2, 0)).save(tmp_path / "after/tile_1.tif")
    refused(ctma, "tile_1.tif: has no CRS, but", *command, "-o", tmp_path / "mixed")


# Outputs


def test_outputs_are_georeferenced_cogs_and_agree(tmp_path, pair):
    result = predict_scene(*pair, Neighbourhood().eval(), tmp_path / "out", threshold=0.6)
    with rasterio.open(result.probability) as probability, rasterio.open(result.mask) as mask:
        for raster in (probability, mask):
            assert raster.crs == UTM
            assert raster.transform == from_origin(500_000, 4_000_000, 0.5, 0.5)
            assert raster.nodata == 255
            assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        stored = probability.read(1) * probability.scales[0]
        changed = mask.read(1)
    clear = np.abs(stored - 0.6) > 0.005
    np.testing.assert_array_equal((stored > 0.6)[clear], changed[clear] == 1)
    polygons = geopandas.read_file(result.changes)
    assert polygons.crs == UTM
    assert polygons.geometry.area.sum() == pytest.approx(changed.sum() * 0.25)
    assert list(polygons["id"]) == list(range(1, len(polygons) + 1))
    assert (polygons["max_probability"] >= 0.6).all()
    assert (polygons["mean_probability"] <= polygons["max_probability"]).all()
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["changes"] == len(polygons)
    assert summary["changed_pixels"] == changed.sum()
    assert not list((tmp_path / "out").glob(".part*"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpkg", "geojson", "fgb"])
def test_polygon_formats_and_least_area(tmp_path, pair, kind):
    result = predict_scene(
        *pair,
        Neighbourhood().eval(),
        tmp_path / "out",
        polygon_format=kind,
        min_area=50,
        simplify=1,
    )
    polygons = geopandas.read_file(result.changes)
    assert len(polygons) > 0
    assert polygons["area_m2"].min() >= 50


def test_a_scene_without_change_gives_an_empty_layer(tmp_path, pair):
    result = predict_scene(*pair, Neighbourhood().eval(), tmp_path / "out", threshold=1.0)
    assert len(geopandas.read_file(result.changes)) == 0
    assert result.summary["changes"] == 0


@pytest.mark.slow
@given(seed=st.integers(0, 2**32), density=st.floats(0.05, 0.7), data=st.data())
@settings(max_examples=80, deadline=None)
def test_changes_traced_by_strips_are_those_of_the_whole_mask(seed, density, data):
    rng = np.random.default_rng(seed)
    height, width = 24, 17
    mask = (rng.random((height, width)) < density).astype(np.uint8)
    probability = rng.random((height, width), dtype=np.float32)
    # Coordinates that no float holds exactly.
    grid = Grid(UTM, from_origin(736262.335681, 3167703.8835859997, 1.1, 1.1), width, height)
    tracer, found, row = Tracer(width), [], 0
    while row < height:
        rows = data.draw(st.integers(1, height - row))
        found += tracer.add(mask[row : row + rows], probability[row : row + rows])
        row += rows
    found += tracer.close()

    at_once = Tracer(width)
    whole = [*at_once.add(mask, probability), *at_once.close()]
    expected = sorted((c.pixels, round(c.total, 3), round(c.highest, 5)) for c in whole)
    assert sorted((c.pixels, round(c.total, 3), round(c.highest, 5)) for c in found) == expected
    traced = sum(1 for _ in shapes(mask, mask=mask.astype(bool), transform=grid.transform))
    assert len(found) == traced
    for change, placed in zip(
        found, on_grid([change.outline for change in found], grid), strict=True
    ):
        assert placed.geom_type == "Polygon"
        assert placed.area == pytest.approx(1.21 * change.pixels)


def test_areas_are_right_in_degrees_too():
    from shapely.geometry import box

    degrees = Grid(CRS.from_epsg(4326), from_origin(35, 34, 1e-4, 1e-4), 10, 10)
    # A square of 0.01 degrees at 33.9 N: 1109.2 m by 925.2 m on the ellipsoid.
    (area,) = GroundArea(degrees)([box(35.0, 33.895, 35.01, 33.905)])
    assert area == pytest.approx(1109.2 * 924.9, rel=2e-3)


# Bad rasters, through the command line


@pytest.mark.slow
def test_rasters_with_a_crs_take_the_scene_path_by_themselves(ctma, pair, tiny_model, tmp_path):
    result = ctma("predict", *pair, "-c", tiny_model, "-o", tmp_path / "out", "--json")
    assert json.loads(result.stdout)["grid"]["width"] == 420
    for name in ("probability.tif", "mask.tif", "changes.gpkg", "summary.json"):
        assert (tmp_path / "out" / name).exists()


@pytest.mark.slow
def test_bad_rasters_are_one_clear_line(ctma, pair, tiny_model, tmp_path):
    out = tmp_path / "out"

    def predict(before, after, expected, *options):
        refused(ctma, expected, "predict", before, after, "-c", tiny_model, "-o", out, *options)
        assert not out.exists() or not list(out.iterdir())

    far = write_raster(tmp_path / "far.tif", smooth(1, 99, 99), from_origin(9e5, 1e6, 1, 1))
    bare = tmp_path / "bare.tif"
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        write_raster(bare, smooth(1, 99, 99), Affine.identity(), crs=None)
    cut = tmp_path / "cut.tif"
    cut.write_bytes(pair[0].read_bytes()[:150_000])
    two = write_raster(tmp_path / "two.tif", smooth(1, 300, 420, bands=2))
    nan = write_raster(tmp_path / "nan.tif", np.full((3, 300, 420), np.nan, np.float32))
    empty = write_raster(tmp_path / "empty.tif", smooth(1, 300, 420) * 0, nodata=0)
    predict(pair[0], far, "do not overlap")
    predict(pair[0], bare, "has no CRS")
    predict(pair[0], cut, "cut.tif")
    predict(pair[0], two, "has 2 bands")
    predict(pair[0], empty, "no valid pixel")
    predict(pair[0], nan, "no valid pixel")
    predict(pair[0], tmp_path / "absent.tif", "absent.tif")
    predict(*pair, "no band 7", "--bands", "1,2,7")
    predict(*pair, "--bands names 2", "--bands", "1,2")
    predict(*pair, "--scale", "--scale", "9,1")
    predict(*pair, "unknown grid", "--grid", "coarsest")
    predict(*pair, "unknown polygon format", "--format", "shp")


def test_checkpoints_of_other_bands_and_locked_folders_are_one_clear_line(ctma, pair, tmp_path):
    wide = tmp_path / "wide.safetensors"
    arguments = {"bands": 4, "video_len": 2}
    save_model(wide, create_model("ctma-s", **arguments))
    refused(ctma, "the network takes 4", "predict", *pair, "-c", wide, "-o", tmp_path / "out")
    (tmp_path / "file").write_text("no folder")
    for name, said in (("file/out", "cannot write"), ("file", "is a file; name a folder")):
        output = tmp_path / name
        refused(ctma, said, "predict", *pair, "-c", wide, "-o", output, "--bands", "1,2,3,1")


def test_masks_in_files_beside_a_raster_are_holes_too(tmp_path, pair):
    after = write_raster(tmp_path / "masked.tif", smooth(2, 300, 420))
    mask = np.full((300, 420), 255, np.uint8)
    mask[:, :140] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(after, "r+") as raster:
        raster.write_mask(mask)
    assert (tmp_path / "masked.tif.msk").exists()
    result = predict_scene(pair[0], after, Neighbourhood().eval(), tmp_path / "out")
    assert result.summary["valid_pixels"] == 300 * 280


def test_bands_that_are_not_read_fill_no_holes(tmp_path, pair):
    pixels = smooth(2, 300, 420, bands=4).astype(np.uint16)
    pixels[:3, :, :140] = 0
    after = write_raster(tmp_path / "four.tif", pixels, nodata=0)
    result = predict_scene(
        pair[0], after, Neighbourhood().eval(), tmp_path / "out", bands=[1, 2, 3]
    )
    assert result.summary["valid_pixels"] == 300 * 280


def test_complex_values_are_refused(tmp_path, pair):
    after = write_raster(tmp_path / "c.tif", smooth(2, 300, 420).astype(np.complex64))
    with pytest.raises(SceneError, match="complex"):
        predict_scene(pair[0], after, Neighbourhood().eval(), tmp_path / "out")


@pytest.mark.slow
def test_parquet_and_its_picture_are_written_and_former_polygons_go(
    ctma, pair, tiny_model, tmp_path
):
    pytest.importorskip("pyarrow")
    out = tmp_path / "out"
    predict_scene(*pair, Neighbourhood().eval(), out)
    assert (out / "changes.gpkg").exists()
    ctma("predict", *pair, "-c", tiny_model, "-o", out, "--format", "parquet")
    picture = (out / "overview.png").read_bytes()
    assert not (out / "changes.gpkg").exists()
    summary = json.loads((out / "summary.json").read_text())
    assert len(geopandas.read_parquet(out / "changes.parquet")) == summary["changes"]
    predict_scene(*pair, Neighbourhood().eval(), out, picture=True)
    assert (out / "overview.png").read_bytes() != picture, "a picture of another result"
    predict_scene(*pair, Neighbourhood().eval(), out)
    assert not (out / "overview.png").exists()


@pytest.mark.parametrize(
    "setting",
    [
        {"threshold": 1.5},
        {"min_area": -1.0},
        {"simplify": float("nan")},
        {"workers": 0},
        {"scale": (1.0, float("inf"))},
    ],
)
def test_settings_out_of_range_are_refused(pair, tmp_path, setting):
    (name,) = setting
    with pytest.raises(SettingError, match=f"`{name}`"):
        predict_scene(*pair, Neighbourhood().eval(), tmp_path / "out", **setting)
    assert not (tmp_path / "out").exists()


def test_polygons_as_parquet_name_the_extra_they_need(pair, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"pyarrow is not installed.*ctma\[scene\]"):
        predict_scene(*pair, Neighbourhood().eval(), tmp_path, polygon_format="parquet")


def test_settings_that_do_not_exist_suggest_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown argument 'min_aera'.*min_area"):
        SceneSettings(min_aera=3)


@pytest.mark.slow
def test_settings_are_one_value_and_the_picture_is_drawn_in_python_too(pair, tmp_path):
    settings = SceneSettings(threshold=0.4, polygon_format="fgb").replace(threshold=0.6)
    result = package.predict_scene(*pair, Neighbourhood().eval(), tmp_path, settings)
    assert result.summary["threshold"] == 0.6
    assert result.changes.name == "changes.fgb"
    assert np.asarray(Image.open(result.picture)).std() > 20


def test_a_raster_in_the_output_folder_is_never_replaced(pair, tmp_path):
    folder = tmp_path / "x"
    folder.mkdir()
    inputs = [shutil.copy(path, folder / name) for path, name in zip(pair, RASTERS, strict=True)]
    kept = [path.read_bytes() for path in inputs]
    with pytest.raises(OutputError, match=r"probability\.tif: is an input"):
        predict_scene(*inputs, Neighbourhood().eval(), folder, overwrite=True)
    assert [path.read_bytes() for path in inputs] == kept
    assert {path.name for path in folder.iterdir()} == set(RASTERS)


def test_the_map_of_another_pair_is_not_replaced_silently(pair, tmp_path):
    network = Neighbourhood().eval()
    for _ in range(2):  # the same pair may be mapped again
        predict_scene(*pair, network, tmp_path / "out")
    with pytest.raises(OutputError, match=r"is not known as the map of this pair.*`overwrite`"):
        predict_scene(*reversed(pair), network, tmp_path / "out")
    predict_scene(*reversed(pair), network, tmp_path / "out", overwrite=True)
    (tmp_path / "theirs").mkdir()
    shutil.copy(pair[0], tmp_path / "theirs/mask.tif")
    with pytest.raises(OutputError, match=r"theirs/mask\.tif: is there already"):
        predict_scene(*pair, network, tmp_path / "theirs")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["gpkg", "geojson", "fgb", "parquet"])
def test_any_legal_path_may_be_the_output(pair, tmp_path, form):
    network = Neighbourhood().eval()
    usual = predict_scene(*pair, network, tmp_path / "usual", polygon_format=form)
    odd = tmp_path / "what!?" / "two\nlines\tand 100%#.zip"
    result = predict_scene(*pair, network, odd, polygon_format=form, picture=True)
    assert {path.name for path in odd.iterdir()} == {
        "probability.tif", "mask.tif", f"changes.{form}", "summary.json", "overview.png",
        "map.qgz", "probability.qml", "mask.qml",
    }  # fmt: skip
    assert result.changes.read_bytes() == usual.changes.read_bytes()
    assert result.summary["changes"] > 0


@pytest.mark.slow
def test_geojson_is_in_wgs84_and_drawn_where_it_lies(pair, tmp_path):
    network = Neighbourhood().eval()
    degrees = predict_scene(*pair, network, tmp_path / "a", polygon_format="geojson")
    metres = predict_scene(*pair, network, tmp_path / "b", polygon_format="gpkg")
    found = geopandas.read_file(degrees.changes)
    assert found.crs == "EPSG:4326"
    west, south, east, north = found.total_bounds
    assert 74.9 < west < east < 75.1
    assert 36.0 < south < north < 36.2
    expected = geopandas.read_file(metres.changes)
    difference = found.to_crs(UTM).geometry.area - expected.geometry.area
    # Seven digits of a degree are a centimetre.
    assert (difference.abs() < 0.012 * expected.geometry.length).all()
    pictures = [
        predict_scene(*pair, network, tmp_path / name, polygon_format=kind, picture=True).picture
        for name, kind in (("a", "geojson"), ("b", "gpkg"))
    ]
    drawn = [np.asarray(Image.open(path)).astype(int) for path in pictures]
    assert np.abs(drawn[0] - drawn[1]).mean() < 2, "outlines lie elsewhere"


@pytest.mark.parametrize("degrees", [20, 45, 90, 160, 270])
def test_a_rotated_raster_keeps_the_size_of_its_pixels(tmp_path, degrees):
    turned = from_origin(1000, 2000, 0.5, 0.5) @ Affine.rotation(degrees)
    path = write_raster(tmp_path / "r.tif", smooth(1, 80, 120), turned)
    with rasterio.open(path) as raster:
        grid = common_grid(raster, raster).grid
    assert (grid.transform.a, grid.transform.e) == pytest.approx((0.5, -0.5))
    assert grid.transform.b == grid.transform.d == 0
    corners = [turned @ corner for corner in ((0, 0), (120, 0), (0, 80), (120, 80))]
    west, north = min(x for x, _ in corners), max(y for _, y in corners)
    assert (grid.transform.c, grid.transform.f) == pytest.approx((west, north), abs=1e-6)
    assert grid.width * 0.5 == pytest.approx(max(x for x, _ in corners) - west, abs=0.51)


@pytest.mark.parametrize(("across", "down"), [(-1, -1), (1, 1), (-1, 1)])
def test_a_raster_that_runs_west_or_north_is_mapped_north_up(tmp_path, across, down):
    pixels = smooth(1, 100, 140)
    usual = write_raster(tmp_path / "usual.tif", pixels, from_origin(1000, 2000, 2, 2))
    corner = (1000 if across > 0 else 1280, 2000 if down < 0 else 1800)
    transform = Affine(2 * across, 0, corner[0], 0, 2 * down, corner[1])
    turned = pixels[:, ::-down, ::across]
    flipped = write_raster(tmp_path / "flipped.tif", turned, transform)
    with rasterio.open(usual) as a, rasterio.open(flipped) as b:
        assert common_grid(b, b).grid == common_grid(a, a).grid
        with Source(b, common_grid(b, b).grid, [1, 2, 3]) as source:
            values, valid = source.read(rasterio.windows.Window(0, 0, 140, 100))
    assert valid.all()
    np.testing.assert_array_equal(values, pixels)


@pytest.mark.parametrize("shape", [(8, 2000), (2000, 8)])
def test_the_picture_of_a_long_thin_scene_stays_small(tmp_path, shape):
    size = (max(shape[0], 64), max(shape[1], 64))
    pair = [write_raster(tmp_path / f"{n}.tif", smooth(n, *size)) for n in (1, 2)]
    result = package.predict_scene(*pair, Neighbourhood().eval(), tmp_path / "out")
    assert max(Image.open(result.picture).size) < 1500


@pytest.mark.slow
def test_the_largest_changes_are_drawn_where_asked_for(tmp_path):
    made = make_map(tmp_path, *paint_many(5, 4), top=12)
    largest = Image.open(made / "largest.png")
    few = make_map(tmp_path, *paint_many(3, 3), ("c.tif", "d.tif"), "FEW", top=3)
    assert Image.open(few / "largest.png").height < largest.height
    without = make_map(tmp_path, *paint_many(3, 3), ("c.tif", "d.tif"), "FEW")
    assert not (without / "largest.png").exists()
    empty = make_map(tmp_path, (64, 64), [], ("e.tif", "f.tif"), "EMPTY", top=3)
    assert not (empty / "largest.png").exists()
    with pytest.raises(SettingError, match="`top`"):
        SceneSettings(top=-1)


def has_no_font(*_):
    raise RuntimeError("no font")


def reads_what_is_gone(*_):
    rasterio.open("gone.tif")  # rasterio logs such errors, too


@pytest.mark.parametrize(
    ("fail", "why"),
    [(has_no_font, "no font"), (reads_what_is_gone, "gone.tif: No such file or directory")],
)
def test_a_picture_that_fails_fails_no_map(pair, tmp_path, monkeypatch, fail, why):
    monkeypatch.setattr("ctma.scene.overview.draw_overview", fail)
    with pytest.warns(CtmaWarning) as caught:
        result = package.predict_scene(*pair, Neighbourhood().eval(), tmp_path / "out")
    assert result.picture is None
    said = [str(warning.message) for warning in caught]
    assert said == [f"{tmp_path}/out/overview.png: could not be drawn ({why})"]
    assert result.mask.exists()
    assert json.loads((tmp_path / "out/summary.json").read_text()) == result.summary
    documented = (ROOT / "docs/reference/json.md").read_text()
    assert [name for name in result.summary if f"`{name}`" not in documented] == []


def test_where_warnings_are_errors_a_map_without_its_picture_is_complete(
    pair, tmp_path, monkeypatch
):
    monkeypatch.setattr("ctma.scene.overview.draw_overview", has_no_font)
    with warnings.catch_warnings(action="error"), pytest.raises(CtmaWarning, match="no font"):
        package.predict_scene(*pair, Neighbourhood().eval(), tmp_path / "out")
    assert (tmp_path / "out/summary.json").exists()
    assert not (tmp_path / "out/.ctma-unfinished").exists()


def test_a_finished_map_gets_the_picture_that_it_lacks(pair, tmp_path, monkeypatch):
    again = partial(package.predict_scene, *pair, Neighbourhood().eval(), tmp_path / "out")
    picture = again().picture
    drawn = picture.read_bytes()
    picture.unlink()
    assert again(resume=True).picture == picture
    assert len(picture.read_bytes()) > 0.5 * len(drawn)
    monkeypatch.setattr("ctma.scene.overview.draw_overview", has_no_font)
    assert again(resume=True).picture == picture
    picture.unlink()
    with pytest.warns(CtmaWarning, match="could not be drawn"):
        assert again(resume=True).picture is None


def test_signs_that_a_picture_cannot_show_do_not_stop_it(tmp_path, recwarn):
    names = ("$x_{$.tif", "\u8863\u670d.tif")
    pair = [write_raster(tmp_path / name, smooth(n, 64, 64)) for n, name in enumerate(names)]
    result = package.predict_scene(*pair, Neighbourhood().eval(), tmp_path / "out")
    assert result.picture.exists()
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


@pytest.mark.parametrize(
    ("driver", "name"),
    [("JP2OpenJPEG", "a.jp2"), ("PNG", "a.png"), ("GTiff", "without_suffix"), ("HFA", "a.img"),
     ("ENVI", "a.dat"), ("GPKG", "a.gpkg")],
)  # fmt: skip
def test_what_has_a_crs_is_a_scene_whatever_it_is_called(ctma, tiny_model, tmp_path, driver, name):
    first, second = tmp_path / "1", tmp_path / "2"
    for folder, seed in ((first, 1), (second, 2)):
        folder.mkdir()
        usual = write_raster(folder / "usual.tif", smooth(seed, 96, 128))
        copy_raster(usual, folder / name, driver=driver)
    ctma("predict", first / name, second / name, "-c", tiny_model, "-o", tmp_path / "out")
    assert read(tmp_path / "out/mask.tif").shape == (96, 128)


def test_places_that_make_no_map_are_refused_with_the_remedy(ctma, tiny_model, pair, tmp_path):
    from rasterio.control import GroundControlPoint

    points = [
        GroundControlPoint(row, column, 500_000 + column / 2, 4_000_000 - row / 2)
        for row, column in ((0, 0), (0, 128), (96, 0), (96, 128))
    ]
    pixels = smooth(1, 96, 128)
    controlled, nowhere, bare = (tmp_path / f"{name}.tif" for name in ("gcp", "nowhere", "bare"))
    for path, crs in ((controlled, None), (nowhere, UTM)):
        with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
            write_raster(path, pixels, Affine.identity(), crs=crs)
    with rasterio.open(controlled, "r+") as raster:
        raster.gcps = points, UTM
    write_raster(bare, pixels, crs=None)
    command = ("-c", tiny_model, "-o", tmp_path / "out")
    refused(ctma, ("control points", "gdalwarp"), "predict", controlled, pair[1], *command)
    refused(ctma, "has a CRS but no transform", "predict", nowhere, pair[1], *command)
    result = ctma("predict", bare, bare, *command)
    assert "bare.tif: has a transform without a CRS, which the outputs will not" in result.stderr

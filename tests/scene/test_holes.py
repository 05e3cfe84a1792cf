"""Which pixels of a raster are no data, and which values are no part of its range."""

import numpy as np
import pytest

rasterio = pytest.importorskip("rasterio")

from rasterio.enums import ColorInterp  # noqa: E402
from rasterio.transform import Affine, from_origin  # noqa: E402
from rasterio.windows import Window  # noqa: E402

from ctma.errors import SceneError  # noqa: E402
from ctma.scene.grid import own_grid  # noqa: E402
from ctma.scene.source import Source  # noqa: E402
from support.scenes import Neighbourhood, as_array, predict_scene, read, smooth, write_raster  # noqa: E402

HEIGHT, WIDTH = 300, 420
HOLE = np.s_[50:150, 200:330]
SHIFTED = from_origin(499_999.9, 4_000_000.1, 0.5, 0.5)


def tag(path, kinds):
    with rasterio.open(path, "r+") as raster:
        raster.colorinterp = [ColorInterp[kind] for kind in kinds]
    return path


def predict(tmp_path, after, **options):
    before = write_raster(tmp_path / "before.tif", smooth(1, HEIGHT, WIDTH))
    return predict_scene(before, after, Neighbourhood().eval(), tmp_path / "out", **options)


@pytest.mark.parametrize("warped", [False, True])
@pytest.mark.parametrize(
    ("bands", "place", "kind", "nodata"),
    [
        (4, 0, "uint8", None), (5, 4, "uint16", None), (5, 3, "uint8", 9),
        (6, 5, "float32", None), (7, 2, "uint16", 9), (9, 8, "uint8", None),
    ],
)  # fmt: skip
def test_alpha_is_heeded_wherever_it_stands(tmp_path, bands, place, kind, nodata, warped):
    pixels = smooth(2, HEIGHT, WIDTH, bands).clip(10).astype(kind)
    pixels[place] = {"uint8": 255, "uint16": 65535, "float32": 1}[kind]
    pixels[place][HOLE] = 0
    kinds = ["undefined"] * (bands - 1)
    kinds[:3] = ["red", "green", "blue"]
    kinds.insert(place, "alpha")
    position = SHIFTED if warped else None
    path = write_raster(
        tmp_path / "h.tif", pixels, position, nodata=nodata, photometric="MINISBLACK"
    )
    mask = read(predict(tmp_path, tag(path, kinds), scale=(0, 255)).mask)
    edge = 2 * warped
    assert (mask[50 + edge : 150 - edge, 200 + edge : 330 - edge] == 255).all()
    outside = np.ones(mask.shape, bool)
    outside[48:152, 198:332] = False
    assert (mask[outside] != 255).all()


@pytest.mark.parametrize("bands", [2, 3, 4, 5])
def test_a_warped_raster_has_no_data_beyond_its_edge(tmp_path, bands):
    turned = SHIFTED @ Affine.rotation(-30)
    pixels = smooth(2, HEIGHT, WIDTH, bands)
    path = write_raster(tmp_path / "turned.tif", pixels, turned, photometric="MINISBLACK")
    before = write_raster(tmp_path / "before.tif", smooth(1, HEIGHT, WIDTH))
    numbers = [1, 1, 2] if bands == 2 else [1, 2, 3]
    with rasterio.open(path) as raster, rasterio.open(before) as common:
        grid = own_grid(common)
        with Source(raster, grid, numbers) as source:
            valid = source.read(Window(0, 0, WIDTH, HEIGHT))[1]
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    across, down = ~turned @ (grid.transform @ (columns, rows))
    inside = (across > 1) & (across < WIDTH - 1) & (down > 1) & (down < HEIGHT - 1)
    beyond = (across < -1) | (across > WIDTH + 1) | (down < -1) | (down > HEIGHT + 1)
    assert inside.any()
    assert valid[inside].all()
    assert beyond.any()
    assert not valid[beyond].any()


@pytest.mark.parametrize("warped", [False, True])
@pytest.mark.parametrize("tagged", [False, True])
def test_a_mask_and_a_nodata_value_are_both_heeded(tmp_path, tagged, warped):
    pixels = smooth(2, HEIGHT, WIDTH).clip(10)
    pixels[:, :10, :50] = 0
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[HOLE] = 0
    path = write_raster(
        tmp_path / "a.tif", pixels, SHIFTED if warped else None, nodata=0 if tagged else None
    )
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as raster:
        raster.write_mask(mask)
    shown = read(predict(tmp_path, path, **({} if tagged else {"nodata": 0})).mask)
    assert (shown[52:148, 202:328] == 255).all()
    assert (shown[1:9, 1:49] == 255).all()
    outside = np.ones(shown.shape, bool)
    outside[48:152, 198:332] = outside[:12, :52] = False
    assert (shown[outside] != 255).all()


def shadows(nodata=0):
    """Colours with a true hole of 500 pixels, and a shadow whose blue has the nodata value."""
    pixels = smooth(2, HEIGHT, WIDTH).clip(10)
    pixels[:, :10, :50] = nodata
    pixels[2][HOLE] = nodata
    return pixels


@pytest.mark.parametrize("warped", [False, True])
@pytest.mark.parametrize("tagged", [False, True])
def test_shadows_of_8_bit_colours_are_no_holes(tmp_path, tagged, warped):
    path = write_raster(
        tmp_path / "a.tif", shadows(), SHIFTED if warped else None, nodata=0 if tagged else None
    )
    options = {} if tagged else {"nodata": 0}
    mask = read(predict(tmp_path, path, **options).mask)
    assert (mask[HOLE] != 255).all()
    assert (mask[1:9, 1:49] == 255).all()
    every = read(predict_scene(
        tmp_path / "before.tif", path, Neighbourhood().eval(), tmp_path / "any", nodata_any=True,
        **options,
    ).mask)  # fmt: skip
    assert (every[52:148, 202:328] == 255).all()


def test_a_nodata_value_that_the_type_cannot_hold_is_refused(tmp_path):
    path = write_raster(tmp_path / "a.tif", smooth(2, 80, 80))
    with pytest.raises(SceneError, match="300 is no value of its type uint8"):
        predict_scene(path, path, Neighbourhood().eval(), tmp_path / "out", nodata=300)


def test_a_scale_that_leaves_out_most_values_is_said(tmp_path):
    path = write_raster(tmp_path / "b.tif", reflectance(1))
    lines = []
    predict_scene(
        path,
        path,
        Neighbourhood().eval(),
        tmp_path / "out",
        scale=(0, 0.3),
        on_warning=lines.append,
    )
    assert "100% of the values of one date lie outside `scale`" in lines[0]


def test_shadows_of_three_of_four_bands_are_judged_by_the_bands_that_are_read(tmp_path):
    pixels = np.concatenate([shadows(), smooth(3, HEIGHT, WIDTH, 1).clip(10)])
    holes = []
    for name, place in (("straight", None), ("warped", SHIFTED)):
        path = write_raster(tmp_path / f"{name}.tif", pixels, place, nodata=0)
        mask = read(predict(tmp_path, path, overwrite=True).mask)
        assert (mask[52:148, 202:328] != 255).all()
        holes.append(mask[1:9, 1:49] == 255)
    assert np.all(holes)


def test_a_shadow_in_arrays_is_no_hole_either(tmp_path):
    pytest.importorskip("odc.geo")
    from ctma import predict_xarray

    before = as_array(smooth(1, HEIGHT, WIDTH))
    stored = as_array(shadows()).rio.write_nodata(0)
    masked = stored.where(stored != 0).rio.write_nodata(0, encoded=True)
    masked.encoding["rasterio_dtype"] = "uint8"
    network = Neighbourhood().eval()
    for after in (stored, masked):
        empty = np.isnan(predict_xarray(before, after, network))
        assert empty[:10, :50].all()
        assert int(empty.sum()) == 500
        assert int(np.isnan(predict_xarray(before, after, network, nodata_any=True)).sum()) > 10_000


def reflectance(seed):
    """Values of 16 bits as of a satellite: 2 % of them bright roofs."""
    rng = np.random.default_rng(seed)
    ground = smooth(seed, 256, 256).astype(np.float64) * 8 + 300 + rng.normal(0, 20, (3, 256, 256))
    ground[:, rng.random((256, 256)) < 0.02] *= 1.6
    return ground.clip(1, 10_000).astype(np.uint16)


def spoil(kind, pixels):
    if kind == "saturated rows":
        pixels[:, :3] = 65535
    elif kind == "dead rows":
        pixels[:, :3] = 0
    elif kind == "clouds":
        pixels[:, :51, :128] = 12_000
        pixels[:, :51, :128] += np.arange(128, dtype=np.uint16) * 20
    elif kind == "glint":
        pixels[:, ::10] = 65535
    return pixels


@pytest.mark.parametrize("kind", ["saturated rows", "dead rows", "clouds", "glint"])
def test_a_tenth_of_wild_pixels_does_not_move_the_range(tmp_path, kind):
    before = write_raster(tmp_path / "b.tif", reflectance(1))
    network = Neighbourhood().eval()
    clean = predict_scene(
        before, write_raster(tmp_path / "c.tif", reflectance(2)), network, tmp_path / "clean"
    )
    wild = predict_scene(
        before, write_raster(tmp_path / "w.tif", spoil(kind, reflectance(2))), network,
        tmp_path / "wild",
    )  # fmt: skip
    for end in ("low", "high"):
        np.testing.assert_allclose(
            getattr(wild.plan.after.scaling, end), getattr(clean.plan.after.scaling, end), atol=60
        )


def test_a_clean_range_is_that_of_its_percentiles(tmp_path):
    pixels = reflectance(2)
    after = write_raster(tmp_path / "c.tif", pixels)
    before = write_raster(tmp_path / "b.tif", reflectance(1))
    result = predict_scene(before, after, Neighbourhood().eval(), tmp_path / "out")
    low, high = np.percentile(pixels.reshape(3, -1), (1, 99), axis=1)
    np.testing.assert_array_equal(result.plan.after.scaling.low, low)
    np.testing.assert_array_equal(result.plan.after.scaling.high, high)


def test_ranges_that_lie_far_apart_are_said(tmp_path):
    before = write_raster(tmp_path / "b.tif", reflectance(1))
    lines = []
    for factor in (1.5, 8):
        after = (reflectance(2) * factor).astype(np.uint16)
        path = write_raster(tmp_path / "a.tif", after)
        network = Neighbourhood().eval()
        predict_scene(
            before, path, network, tmp_path / "out", overwrite=True, on_warning=lines.append
        )
    (line,) = lines
    assert "times as far" in line
    assert "`scale`" in line


@pytest.mark.parametrize("how", ["coordinate", "long_name"])
def test_arrays_are_read_by_the_names_of_their_bands(how):
    pytest.importorskip("odc.geo")
    from ctma import predict_xarray

    network = Neighbourhood().eval()
    pixels = [smooth(seed, 96, 96, bands=4) for seed in (1, 2)]
    wanted = predict_xarray(*(as_array(date[[3, 2, 1]]) for date in pixels), network)
    names = ["nir", "blue", "green", "red"]
    arrays = [as_array(date) for date in pixels]
    if how == "coordinate":
        arrays = [array.assign_coords(band=names) for array in arrays]
    else:
        arrays = [array.assign_attrs(long_name=tuple(names)) for array in arrays]
    assert np.array_equal(predict_xarray(*arrays, network), wanted)

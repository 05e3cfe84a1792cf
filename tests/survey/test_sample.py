"""Places drawn from a map: by ground area, by strata, by seed, and files for other programs."""

import json

import geopandas
import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import from_origin

from ctma import (
    DataError,
    OutputError,
    SampleSettings,
    SettingError,
    UnknownNameError,
    draw_sample,
)
from ctma.scene.finished import read_finished
from ctma.survey.drawing import draw
from ctma.survey.ground import PixelAreas
from ctma.survey.strata import Strata
from support.commands import refused
from support.maps import make_map

SQUARES = [(40, 40, 40, 220), (200, 90, 30, 200), (130, 200, 24, 240)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_map(tmp_path_factory.mktemp("scene"), (300, 300), SQUARES)


def read(path):
    return geopandas.read_file(path, layer="sample")


def values_at(folder, table):
    with rasterio.open(folder / "mask.tif") as raster:
        points = zip(table.geometry.x, table.geometry.y, strict=True)
        return np.array([value[0] for value in raster.sample(points)])


def test_places_lie_in_their_strata_in_random_order_and_tell_nothing_of_the_map(folder, tmp_path):
    drawn = draw_sample(folder, tmp_path / "sample.gpkg", SampleSettings(points=200, least=20))
    table = read(drawn.path)
    assert len(table) == drawn.points == sum(drawn.sizes)
    mask = values_at(folder, table)
    sizes = dict(zip((part.name for part in drawn.strata), drawn.sizes, strict=True))
    assert (mask == 1).sum() == sizes["change"] >= 20
    assert not {"stratum", "mask", "probability"} & {*table.columns}
    # Change is spread over the list, not at one end.
    places = np.flatnonzero(mask == 1)
    assert places.min() < 60
    assert places.max() > 140
    assert not table.geometry.duplicated().any()


def test_equal_seeds_give_equal_samples_and_others_do_not(folder, tmp_path):
    files = [
        draw_sample(folder, tmp_path / f"{name}.gpkg", SampleSettings(points=60, seed=seed)).path
        for name, seed in (("one", 3), ("same", 3), ("other", 4))
    ]
    one, same, other = (path.read_bytes() for path in files)
    assert one == same != other


def test_the_strata_share_out_the_map(folder):
    finished = read_finished(folder)
    parts = Strata(finished, SampleSettings(buffer=2.0, levels=(0.2, 0.9))).describe()
    with rasterio.open(folder / "mask.tif") as raster:
        mask, pixel = raster.read(1), raster.transform.a**2
    assert sum(part.pixels for part in parts) == mask.size
    assert sum(p.pixels for p in parts if p.mapped) == (mask == 1).sum()
    # The ground differs a little from the plane of the projection.
    assert sum(p.area for p in parts) == pytest.approx(mask.size * pixel, rel=2e-3)
    assert {part.zone for part in parts} == {"change", "near change", "no change"}
    near = sum(part.pixels for part in parts if part.zone == "near change")
    width = round(2.0 / np.sqrt(pixel))
    assert near == sum((side + 2 * width) ** 2 - side**2 for *_, side, _ in SQUARES)


def test_strata_do_not_depend_on_strips(folder, monkeypatch):
    finished = read_finished(folder)
    whole = Strata(finished, SampleSettings()).describe()
    monkeypatch.setattr("ctma.scene.strips.STRIP_ROWS", 37)
    strips = Strata(finished, SampleSettings()).describe()
    assert [part.pixels for part in strips] == [part.pixels for part in whole]
    assert [p.area for p in strips] == pytest.approx([p.area for p in whole])


@pytest.mark.parametrize("allocation", ["neyman", "proportional", "equal"])
def test_allocations_share_the_points(folder, allocation):
    drawn = draw(read_finished(folder), SampleSettings(points=120, least=10, allocation=allocation))
    assert sum(drawn.sizes) == pytest.approx(120, abs=2)
    assert min(drawn.sizes) >= 10
    if allocation == "equal":
        assert len({*drawn.sizes}) == 1
    if allocation == "proportional":
        assert drawn.sizes[0] == max(drawn.sizes)


def test_the_number_of_points_follows_from_the_wanted_error(folder, tmp_path):
    rough, fine = (
        draw_sample(
            folder, tmp_path / f"{share}.gpkg", SampleSettings(standard_error=share, least=5)
        )
        for share in (0.4, 0.2)
    )
    assert fine.points > 2 * rough.points
    assert fine.expected_error / fine.expected_area == pytest.approx(0.2, rel=0.03)


def test_ground_counts_in_degrees_not_pixels(tmp_path):
    """From the equator to 60 degrees, a pixel's ground halves: so does the number of places."""
    grid = {"crs": CRS.from_epsg(4326), "transform": from_origin(10, 62, 0.2, 0.2)}
    folder = make_map(tmp_path, (310, 100), [(20, 40, 20, 230)], **grid)
    finished = read_finished(folder)
    areas = PixelAreas(finished.grid).at(np.arange(310), np.zeros(310, int))
    latitude = 62 - 0.2 * (np.arange(310) + 0.5)
    assert areas / areas.max() == pytest.approx(np.cos(np.radians(latitude)), abs=0.008)
    drawn = draw(finished, SampleSettings(points=3000, allocation="proportional"))
    north, south = (drawn.rows < 50).sum(), (drawn.rows >= 260).sum()
    expected = areas[:50].sum() / areas[260:].sum()
    assert north / south == pytest.approx(expected, rel=0.15)
    assert sum(part.area for part in drawn.strata) == pytest.approx(100 * areas.sum(), rel=1e-3)


def test_a_regular_grid_covers_the_map(folder):
    drawn = draw(read_finished(folder), SampleSettings(points=100, design="systematic"))
    assert len(drawn.rows) == pytest.approx(100, abs=15)
    steps = np.diff(np.unique(drawn.rows))
    assert steps.max() - steps.min() <= 1


def test_nodata_is_no_stratum(tmp_path):
    folder = make_map(tmp_path, (300, 300), SQUARES)
    for name in ("mask.tif", "probability.tif"):
        with rasterio.open(folder / name) as raster:
            profile, values = raster.profile, raster.read()
        values[:, :150] = 255
        (folder / name).unlink()
        with rasterio.open(folder / name, "w", **{**profile, "driver": "GTiff"}) as raster:
            raster.write(values)
    drawn = draw(read_finished(folder), SampleSettings(points=100))
    assert drawn.rows.min() >= 150
    assert sum(part.pixels for part in drawn.strata) == 150 * 300


def test_polygons_are_places_too(folder, tmp_path):
    settings = SampleSettings(points=3, units="polygons", least=2)
    drawn = draw_sample(folder, tmp_path / "polygons.gpkg", settings)
    table = read(drawn.path)
    assert sorted(table["change"]) == [1, 2, 3]
    assert {*table.geom_type} == {"Polygon"}


def test_geojson_is_in_degrees_and_csv_has_the_columns_of_other_programs(folder, tmp_path):
    path = draw_sample(
        folder, tmp_path / "sample.geojson", SampleSettings(points=60, least=20)
    ).path
    content = json.loads(path.read_bytes())
    x, y = content["features"][0]["geometry"]["coordinates"]
    told = content["features"][0]["properties"]
    assert (x, y) == pytest.approx((told["longitude"], told["latitude"]))
    assert content["ctma"]["points"] == 60 == len(content["features"])
    for columns, first in (
        ("collect-earth", "id,YCoordinate,XCoordinate,elevation,slope,aspect"),
        ("collect-earth-online", "LON,LAT,PLOTID"),
    ):
        file = tmp_path / f"{columns}.csv"
        draw_sample(folder, file, SampleSettings(points=60, least=20), columns=columns)
        lines = file.read_text().splitlines()
        assert (lines[0], len(lines)) == (first, 61)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"points": 1}, "`points` 1"),
        ({"buffer": -1.0}, "`buffer`"),
        ({"levels": (0.8, 0.1)}, "rising probabilities"),
        ({"levels": tuple(n / 100 for n in range(1, 90))}, "89 are more than 20"),
        ({"expect_users": 1.0}, "`expect_users`"),
        ({"standard_error": 2.0}, "`standard_error`"),
        ({"units": "polygons", "design": "systematic"}, "polygons lie on no grid"),
        ({"standard_error": 0.1, "design": "systematic"}, "give `points`"),
    ],
)
def test_wrong_settings_are_refused(values, said):
    with pytest.raises(SettingError, match=said):
        SampleSettings(**values)
    with pytest.raises(UnknownNameError, match="design"):
        SampleSettings(design="random")


def test_wrong_input_is_one_line(ctma, folder, tmp_path):
    refused(ctma, "holds no finished map", "sample", tmp_path / "absent", "-o", tmp_path / "s.gpkg")
    refused(ctma, ".gpkg, .geojson, .csv", "sample", folder, "-o", tmp_path / "s.shp")
    refused(ctma, "a .csv needs", "sample", folder, "-o", tmp_path / "s.csv")
    refused(ctma, "expected a share", "sample", folder, "-o", tmp_path / "s.gpkg",
            "--standard-error", "ten")  # fmt: skip
    refused(ctma, "expected probabilities", "sample", folder, "-o", tmp_path / "s.gpkg",
            "--levels", "a,b")  # fmt: skip
    assert [*tmp_path.iterdir()] == []
    ctma("sample", folder, "-o", tmp_path / "s.gpkg", "--points", "60")
    with pytest.raises(OutputError, match="is there already"):
        draw_sample(folder, tmp_path / "s.gpkg")
    empty = make_map(tmp_path / "still", (80, 80), [])
    with pytest.raises(DataError, match="too few to draw from"):
        draw_sample(empty, tmp_path / "p.gpkg", SampleSettings(units="polygons"))
    ctma("sample", empty, "-o", tmp_path / "still.gpkg", "--points", "60", "--json")

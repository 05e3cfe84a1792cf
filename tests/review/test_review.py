"""``ctma review`` writes a page: what is on it, and what is said where something is missing."""

import base64
import io
import json

import geopandas
import numpy as np
import pytest
from PIL import Image
from rasterio.transform import from_origin
from shapely import box

import ctma as package
from support.images import write_pair
from support.maps import Brighter, data_of, make_map, paint, paint_many
from support.scenes import predict_scene, write_raster

SQUARES = [(10, 12, 10, 200), (60, 20, 12, 180), (30, 70, 14, 160)]
SIZE = (110, 100)


@pytest.fixture
def scene(tmp_path):
    return make_map(tmp_path, SIZE, SQUARES)


@pytest.mark.parametrize("size", [(1, 4000), (3000, 1)])
def test_maps_and_images_of_one_row_have_a_page(tmp_path, size):
    before, after = paint(size, [(0, 0, max(size) // 2, 220)])
    write_pair(tmp_path, "thin", before.transpose(1, 2, 0), after.transpose(1, 2, 0))
    package.predict_files(
        tmp_path / "A", tmp_path / "B", Brighter().eval(), tmp_path / "images", protocol="whole"
    )
    paths = [write_raster(tmp_path / f"{n}.tif", image) for n, image in enumerate((before, after))]
    predict_scene(*paths, Brighter().eval(), tmp_path / "map")
    for name in ("images", "map"):
        assert package.write_review(tmp_path / name).path.stat().st_size > 0


def pictures_of(data, change):
    """Both dates at a change, with its box: of the change, or of its place if that is small."""
    place = data["places"][change["place"]]
    if change["before"] or change["after"]:
        return [picture(change[date]) for date in ("before", "after")], change["box"]
    assert max(place["width"], place["height"]) <= 1536
    box = [0, 0, place["width"], place["height"]]
    return [picture(place[date]) for date in ("before", "after")], box


def picture(source):
    content = base64.b64decode(source.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def test_a_page_says_how_large_it_is_and_lies_beside_the_map(scene, ctma):
    written = json.loads(ctma("review", scene, "--json").stdout)
    page = scene / "review.html"
    assert written["path"] == str(page)
    assert written["total_bytes"] == page.stat().st_size
    assert 0 < written["picture_bytes"] < written["total_bytes"]
    assert (written["changes"], written["shown"]) == (3, 3)
    assert "3 changes" in ctma("review", scene).stdout


def test_pictures_show_both_dates_where_the_change_is(scene, ctma):
    ctma("review", scene, "--order", "area")
    data = data_of(scene / "review.html")
    change = data["changes"][0]
    (before, after), (left, top, width, height) = pictures_of(data, change)
    column, row, side, brightness = SQUARES[2]
    inside = (
        slice(row - top + 3, row - top + side - 3),
        slice(column - left + 3, column - left + side - 3),
    )
    assert before.shape == (height, width, 3)
    assert np.abs(before[inside] - 63).max() < 20
    assert np.abs(after[inside] - brightness).max() < 12
    assert [min(ring) for ring in zip(*change["outline"][0], strict=True)] == [column, row]


def test_dates_on_other_grids_are_shown_on_the_maps_grid(tmp_path, ctma):
    before, after = paint((400, 400), [(200, 120, 60, 200)])
    first = write_raster(tmp_path / "a.tif", before)
    # Half the pixels, and 20 m to the east.
    second = write_raster(
        tmp_path / "b.tif", after[:, ::2, 40::2], from_origin(500_020, 4_000_000, 1, 1)
    )
    predict_scene(first, second, Brighter().eval(), tmp_path / "OUT")
    ctma("review", tmp_path / "OUT")
    data = data_of(tmp_path / "OUT/review.html")
    (_, shown), (left, top, *_) = pictures_of(data, data["changes"][0])
    # The map begins 40 pixels further to the east than the raster before.
    rows, columns = 120 - top, 200 - 40 - left
    assert shown[rows + 5 : rows + 55, columns + 5 : columns + 55].min() > 170
    assert shown[rows + 5 : rows + 55, columns - 20 : columns - 5].max() < 90


def test_orders_and_the_largest_number_choose_what_is_shown(tmp_path, ctma):
    many = make_map(tmp_path, *paint_many(6, 5))
    line = ctma("review", many, "--most", "7", "--order", "doubt").stderr
    assert "shows 7 of 30 changes; raise --most" in " ".join(line.split())
    data = data_of(many / "review.html")
    doubts = [abs(change["mean"] - data["threshold"]) for change in data["changes"]]
    assert doubts == sorted(doubts)
    assert (len(doubts), data["total"]) == (7, 30)
    ctma("review", many, "--order", "place")
    lefts = [change["box"][0] for change in data_of(many / "review.html")["changes"]]
    assert lefts == sorted(lefts)


def test_without_a_raster_the_page_is_made_of_what_there_is(scene, tmp_path, ctma):
    (tmp_path / "before.tif").rename(tmp_path / "moved.tif")
    run = ctma("review", scene)
    assert "before.tif: cannot be opened" in run.stderr
    assert "name where it is as --before" in run.stderr
    data = data_of(scene / "review.html")
    assert data["places"][0]["before"] is None
    assert data["places"][0]["after"]
    assert not ctma("review", scene, "--before", tmp_path / "moved.tif").stderr
    assert data_of(scene / "review.html")["places"][0]["before"]
    ctma("review", scene, "--before", tmp_path / "nowhere.tif", code=2)


def test_a_raster_that_was_changed_is_told(scene, tmp_path, ctma):
    write_raster(tmp_path / "after.tif", paint(SIZE, [])[1])
    assert "is not the raster that the map was made from" in ctma("review", scene).stderr


def test_a_map_without_changes_has_a_page(tmp_path, ctma):
    ctma("review", make_map(tmp_path, SIZE, []))
    assert data_of(tmp_path / "OUT/review.html")["changes"] == []


def test_a_page_of_a_hundred_thousand_changes_is_bounded(tmp_path):
    scene = make_map(tmp_path, (400, 1000), SQUARES)
    squares = [box(x, -y - 0.5, x + 0.5, -y) for x in range(500) for y in range(200)]
    many = geopandas.GeoDataFrame(
        {
            "id": range(1, 100_001),
            "area_m2": 1.0,
            "mean_probability": np.linspace(0.5, 1, 100_000),
        },
        geometry=squares,
        crs=32643,
    )
    many.geometry = many.translate(500_000, 4_000_000)
    many.to_file(scene / "changes.gpkg", layer="changes")
    with pytest.warns(package.CtmaWarning, match="shows 50 of 100000 changes"):
        page = package.write_review(scene, most=50)
    assert (page.changes, page.shown) == (100_000, 50)
    assert page.total_bytes - page.picture_bytes < 2e6


def test_what_cannot_be_is_one_line(scene, tmp_path, ctma):
    (tmp_path / "there.html").touch()
    for arguments, said in (
        (("-o", tmp_path / "there.html"), "is there already"),
        (("--order", "age"), "unknown order 'age'"),
        (("--repeat", "often"), "--repeat often: expected a share"),
        (("--repeat", "150%"), "between 0 and 1"),
        (("--apply", "d.geojson", "--most", "9"), "--most is for the page"),
        (("--apply", tmp_path / "none.geojson"), "cannot be read"),
    ):
        assert said in ctma("review", scene, *arguments, code=2).stderr
    ctma("review", scene, "-o", tmp_path / "there.html", "--overwrite")
    changes = geopandas.read_file(scene / "changes.gpkg", layer="changes")
    changes.geometry = changes.translate(1000, 0)
    changes.to_file(scene / "changes.gpkg", layer="changes")
    assert "change 1 lies outside the map" in ctma("review", scene, code=2).stderr
    changes.drop(columns="area_m2").to_file(scene / "changes.gpkg", layer="changes")
    assert "has no attribute area_m2" in ctma("review", scene, code=2).stderr
    (scene / "changes.gpkg").write_bytes(b"no polygons")
    assert "cannot be read as polygons" in ctma("review", scene, code=2).stderr
    (scene / "summary.json").write_text("[]")
    assert "is not the summary of a map" in ctma("review", scene, code=2).stderr


def test_images_that_moved_are_named(tmp_path, ctma):
    for name, pixels in zip("AB", paint(SIZE, SQUARES), strict=True):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels.transpose(1, 2, 0)).save(tmp_path / name / "one.png")
    package.predict_files(tmp_path / "A", tmp_path / "B", Brighter().eval(), tmp_path / "OUT")
    (tmp_path / "A").rename(tmp_path / "C")
    assert "one: the image before is not at hand" in ctma("review", tmp_path / "OUT").stderr
    assert not ctma("review", tmp_path / "OUT", "--before", tmp_path / "C").stderr
    assert len(data_of(tmp_path / "OUT/review.html")["changes"]) == 3

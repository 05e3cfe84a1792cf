"""Decisions are read from GeoJSON and applied to a map: scenes and image pairs."""

import json

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import from_origin
from shapely.geometry import box, mapping

import ctma as package
from ctma import DataError
from ctma.scene.finished import read_finished
from support.decisions import decide, square_of, to_degrees
from support.images import read as read_image
from support.images import write_pair
from support.maps import Brighter, make_map, paint
from support.scenes import read

pytest.importorskip("geopandas")

SQUARES = [(10, 12, 10, 200), (60, 20, 12, 180), (30, 70, 14, 160)]
SIZE = (110, 100)


@pytest.fixture
def scene(tmp_path):
    return make_map(tmp_path, SIZE, SQUARES)


def test_verdicts_go_beside_the_changes_and_the_accepted_map_holds_what_remains(
    scene, tmp_path, ctma
):
    squares = {number: square_of(scene, number) for number in (1, 2, 3)}
    column, row, side = squares[2]
    mended = (column, row, side - 4)
    drawn = (80, 90, 6)
    file = decide(
        tmp_path / "d.geojson", scene,
        [
            (1, "wrong", squares[1], {"note": "a shadow"}),
            (2, "right", mended, {"mended": True}),
            (None, "missed", drawn, {"note": "a shed"}),
        ],
    )  # fmt: skip
    before = {name: (scene / name).read_bytes() for name in ("mask.tif", "probability.tif")}
    said = ctma("review", scene, "--apply", file).stdout
    assert "1 right, 1 wrong, 1 undecided, 1 missed; 1 outline mended" in said
    changes = geopandas.read_file(scene / "changes.gpkg", layer="changes")
    assert [*changes.columns] == [
        "id", "area_m2", "mean_probability", "max_probability", "verdict", "reviewer", "note",
        "outline", "geometry",
    ]  # fmt: skip
    assert changes["verdict"].tolist()[:2] == ["wrong", "right"]
    assert changes["verdict"].isna().tolist() == [False, False, True]
    assert changes["note"][0] == "a shadow"
    assert changes["outline"][1].startswith("POLYGON")
    accepted = geopandas.read_file(scene / "accepted.gpkg", layer="accepted")
    assert len(accepted) == 3
    assert accepted.crs == changes.crs
    assert accepted["verdict"].tolist()[-1] == "missed"
    # Pixels of half a metre, measured on the ellipsoid.
    assert accepted["area_m2"].tolist() == pytest.approx(
        [(side - 4) ** 2 / 4, squares[3][2] ** 2 / 4, 9.0], rel=0.002
    )
    wanted = np.zeros(SIZE, np.uint8)
    for column, row, side in (mended, squares[3], drawn):
        wanted[row : row + side, column : column + side] = 1
    assert np.array_equal(read(scene / "accepted.tif"), wanted)
    assert before == {name: (scene / name).read_bytes() for name in before}


def test_a_second_reviewer_is_compared_and_what_both_drew_counts_once(scene, tmp_path, ctma):
    places = [square_of(scene, number) for number in (1, 2, 3)]

    def file(reviewer, verdicts, drawn):
        decisions = [
            (number, verdict, places[number - 1], {}) for number, verdict in enumerate(verdicts, 1)
        ]
        decisions += [(1, "wrong", places[0], {"repeat": True}), (None, "missed", drawn, {})]
        return decide(tmp_path / f"{reviewer}.geojson", scene, decisions, reviewer=reviewer)

    files = [
        file("Ada", ("right", "wrong", "right"), (80, 90, 6)),
        file("Ben", ("right", "wrong", "wrong"), (80, 89, 6)),
    ]
    run = ctma("review", scene, "--apply", files[0], "--apply", files[1], "--json")
    applied = json.loads(run.stdout)
    assert applied["counts"] == {
        "right": 1, "wrong": 1, "unsure": 0, "disputed": 1, "undecided": 0, "missed": 1
    }  # fmt: skip
    # Two of three alike; by chance (2*1 + 1*2) / 9 = 4/9.
    own, other, both = applied["agreements"]
    assert (own["first"], own["second"], own["changes"], own["same"]) == ("Ada", "Ada", 1, 0)
    assert (other["first"], other["same"]) == ("Ben", 0)
    assert (both["changes"], both["same"]) == (3, 2)
    assert both["kappa"] == pytest.approx((2 / 3 - 4 / 9) / (1 - 4 / 9))
    assert applied["accepted"] == 3


def test_decisions_can_be_applied_again_and_a_new_page_still_fits(scene, tmp_path, ctma):
    file = decide(tmp_path / "d.geojson", scene, [(1, "wrong", square_of(scene, 1), {})])
    ctma("review", scene, "--apply", file)
    first = (scene / "accepted.gpkg").read_bytes()
    ctma("review", scene, "--apply", file)
    assert (scene / "accepted.gpkg").read_bytes() == first


@pytest.mark.parametrize("form", ["geojson", "fgb", "parquet"])
def test_verdicts_go_into_polygons_of_every_format(tmp_path, ctma, form):
    scene = make_map(tmp_path, SIZE, SQUARES, polygon_format=form)
    file = decide(tmp_path / "d.geojson", scene, [(1, "wrong", (0, 0, 9), {})])
    ctma("review", scene, "--apply", file)
    read_file = geopandas.read_parquet if form == "parquet" else geopandas.read_file
    changes = read_file(scene / f"changes.{form}").sort_values("id")
    assert changes["verdict"].tolist()[0] == "wrong"
    assert read(scene / "accepted.tif").sum() < read(scene / "mask.tif").sum()


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        (CRS.from_epsg(4326), from_origin(179.9998, -16.0, 4e-6, 4e-6)),
        (CRS.from_epsg(3857), from_origin(1_500_000, 6_800_000, 1, 1)),
    ],
    ids=["across 180 degrees", "mercator"],
)
def test_drawn_outlines_lie_where_they_were_drawn_in_any_crs(tmp_path, ctma, crs, transform):
    scene = make_map(tmp_path, SIZE, SQUARES, crs=crs, transform=transform)
    drawn = (80, 85, 12)
    file = decide(tmp_path / "d.geojson", scene, [(None, "missed", drawn, {})])
    ctma("review", scene, "--apply", file)
    wanted = read(scene / "mask.tif").copy()
    wanted[85:97, 80:92] = 1
    assert np.array_equal(read(scene / "accepted.tif"), wanted)


@pytest.mark.parametrize(("crs", "west"), [(4326, 179.9998), (4326, 185.0), (32660, 819_350.0)])
def test_geojson_across_180_degrees_is_read_as_it_was_written(tmp_path, ctma, crs, west):
    place = CRS.from_epsg(crs)
    metres = 1 if place.is_geographic else 111_000
    transform = from_origin(west, 16.0 * metres, 4e-6 * metres, 4e-6 * metres)
    options = {"crs": place, "transform": transform, "polygon_format": "geojson", "picture": True}
    scene = make_map(tmp_path, SIZE, SQUARES, **options)
    assert (scene / "overview.png").exists()
    with rasterio.open(scene / "mask.tif") as raster:
        extent = box(*raster.bounds).buffer(1e-7 * metres)
    assert read_finished(scene).read_changes().within(extent).all()
    file = decide(tmp_path / "d.geojson", scene, [(2, "wrong", (0, 0, 9), {})])
    ctma("review", scene, "--apply", file)
    accepted = read(scene / "accepted.tif")
    assert accepted.sum() == read(scene / "mask.tif").sum() - 12**2


def test_without_a_place_on_earth_outlines_are_pixels(tmp_path, ctma):
    local = CRS.from_wkt('LOCAL_CS["here",UNIT["metre",1]]')
    scene = make_map(tmp_path, SIZE, SQUARES, crs=local)

    def pixels(_, column, row, side):
        return mapping(box(column, row, column + side, row + side))

    file = decide(
        tmp_path / "d.geojson", scene, [(None, "missed", (80, 85, 12), {})], geometry=pixels
    )
    ctma("review", scene, "--apply", file)
    assert (read(scene / "accepted.tif")[85:97, 80:92] == 1).all()


def test_masks_of_images_are_reviewed_by_pair(tmp_path, ctma):
    for name, squares in (("a", SQUARES[:2]), ("b", SQUARES[2:])):
        before, after = (pixels.transpose(1, 2, 0) for pixels in paint(SIZE, squares))
        write_pair(tmp_path, name, before, after)
    package.predict_files(
        tmp_path / "A", tmp_path / "B", Brighter().eval(), tmp_path / "OUT", protocol="whole"
    )
    out = tmp_path / "OUT"

    def pixels(_, column, row, side):
        return mapping(box(column, row, column + side, row + side))

    file = decide(
        tmp_path / "d.geojson", out,
        [
            (1, "wrong", SQUARES[0][:3], {"place": "a"}),
            (None, "missed", (5, 90, 8), {"place": "b"}),
        ],
        geometry=pixels,
    )  # fmt: skip
    ctma("review", out, "--apply", file)
    wanted = [read_image(out / "mask" / f"{name}.png").copy() for name in "ab"]
    column, row, side = SQUARES[0][:3]
    wanted[0][row : row + side, column : column + side] = 0
    wanted[1][90:98, 5:13] = 255
    for name, mask in zip("ab", wanted, strict=True):
        assert np.array_equal(read_image(out / "accepted" / f"{name}.png"), mask)


BROKEN = {
    "not json": ("{", "is not JSON"),
    "other json": ("[1]", "holds no decisions"),
    "other geojson": ('{"type": "FeatureCollection", "features": []}', "holds no decisions"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_files_that_hold_no_decisions_are_one_line(scene, tmp_path, ctma, kind):
    text, said = BROKEN[kind]
    (tmp_path / "d.geojson").write_text(text)
    assert said in ctma("review", scene, "--apply", tmp_path / "d.geojson", code=2).stderr


EDITED = {
    "verdict": ({"verdict": "maybe"}, "feature 1: verdict 'maybe'"),
    "unknown id": ({"id": 99}, "decides on change 99, which the map lacks"),
    "text for id": ({"id": "x"}, "feature 1: id 'x'"),
    "missed with id": ({"verdict": "missed"}, "feature 1: a drawn change has"),
    "long text": ({"seconds": "long"}, "feature 1: seconds 'long'"),
}


@pytest.mark.parametrize("kind", EDITED)
def test_hand_edited_decisions_name_the_feature(scene, tmp_path, ctma, kind):
    more, said = EDITED[kind]
    file = decide(tmp_path / "d.geojson", scene, [(1, "wrong", (0, 0, 9), more)])
    former = (scene / "changes.gpkg").read_bytes()
    assert said in ctma("review", scene, "--apply", file, code=2).stderr
    assert (scene / "changes.gpkg").read_bytes() == former
    assert not (scene / "accepted.gpkg").exists()


@pytest.mark.parametrize(
    "geometry",
    [
        None,
        {"type": "Point", "coordinates": [1, 2]},
        {"type": "Polygon", "coordinates": []},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, None], [1, 1], [0, 0]]]},
        {"type": "Blob"},
        "text",
    ],
)
def test_geometries_without_an_area_name_the_feature(scene, tmp_path, ctma, geometry):
    file = decide(
        tmp_path / "d.geojson", scene, [(None, "missed", (1, 1, 1), {})],
        geometry=lambda *_: geometry,
    )  # fmt: skip
    line = ctma("review", scene, "--apply", file, code=2).stderr
    assert "feature 1: has no polygon" in line


def test_a_hole_is_no_change_wherever_the_outline_was_mended_to(scene, tmp_path, ctma):
    def with_hole(folder, column, row, side):
        shell = to_degrees(folder, column, row, side)["coordinates"][0]
        hole = to_degrees(folder, column + side // 2, row, side)["coordinates"][0]
        return {"type": "Polygon", "coordinates": [shell, hole]}

    places = [(1, "right", (70, 80, 12), {"mended": True})]
    file = decide(tmp_path / "d.geojson", scene, places, geometry=with_hole)
    ctma("review", scene, "--apply", file)
    wanted = read(scene / "mask.tif").copy()
    left, top, side = square_of(scene, 1)
    wanted[top : top + side, left : left + side] = 0
    wanted[80:92, 70:76] = 1
    assert np.array_equal(read(scene / "accepted.tif"), wanted)


def test_drawn_changes_get_numbers_of_their_own(scene, tmp_path, ctma):
    decisions = [(3, "wrong", square_of(scene, 3), {}), (None, "missed", (80, 85, 12), {})]
    ctma("review", scene, "--apply", decide(tmp_path / "d.geojson", scene, decisions))
    accepted = geopandas.read_file(scene / "accepted.gpkg", layer="accepted")
    assert accepted["id"].tolist() == [1, 2, 4]


def test_a_crossing_outline_is_mended(scene, tmp_path, ctma):
    def bow(folder, column, row, side):
        square = to_degrees(folder, column, row, side)
        first, second, third, fourth, _ = square["coordinates"][0]
        return {"type": "Polygon", "coordinates": [[first, third, second, fourth, first]]}

    file = decide(tmp_path / "d.geojson", scene, [(None, "missed", (80, 85, 12), {})], geometry=bow)
    ctma("review", scene, "--apply", file)
    assert read(scene / "accepted.tif")[85:97, 80:92].any()


def test_decisions_of_another_map_are_refused(scene, tmp_path, ctma):
    other = make_map(tmp_path, SIZE, SQUARES[:2], ("c.tif", "d.tif"), "OTHER")
    file = decide(tmp_path / "d.geojson", other, [(1, "wrong", (0, 0, 9), {})])
    line = ctma("review", scene, "--apply", file, code=2).stderr
    assert "holds decisions on another map" in line


def test_a_folder_without_a_map_is_one_line(tmp_path, scene, ctma):
    (tmp_path / "empty").mkdir()
    for folder, said in (
        ("empty", "holds no map"),
        ("nowhere", "no such folder"),
        (".", "holds several maps"),
    ):
        assert said in ctma("review", tmp_path / folder, code=2).stderr
    (scene / "mask.tif").unlink()
    assert "mask.tif missing" in ctma("review", scene, code=2).stderr
    with pytest.raises(DataError, match="no finished map"):
        package.apply_decisions(scene, tmp_path / "d.geojson")


def test_outlines_and_notes_of_repeated_changes_count(scene, tmp_path, ctma):
    column, row, side = square_of(scene, 1)
    more = {"repeat": True, "mended": True, "note": "again"}
    file = decide(
        tmp_path / "d.geojson", scene,
        [(1, "right", (column, row, side), {}), (1, "wrong", (column, row, side - 5), more)],
    )  # fmt: skip
    said = ctma("review", scene, "--apply", file).stdout
    assert "1 right, 2 undecided; 1 outline mended" in said
    changes = geopandas.read_file(scene / "changes.gpkg", layer="changes")
    assert changes["note"][0] == "again"


def test_verdicts_are_never_lost_without_a_word(scene, tmp_path, ctma):
    square = square_of(scene, 1)
    files = [
        decide(tmp_path / f"{name}.geojson", scene, [(1, "wrong", square, {})], reviewer=name)
        for name in ("Ada", "Ben")
    ]
    ctma("review", scene, "--apply", files[0])
    assert "verdicts of Ada are replaced" in ctma("review", scene, "--apply", files[1]).stderr
    again = ("review", scene, "--apply", files[0], "--apply", files[0])
    assert "named twice" in ctma(*again, code=2).stderr
    with pytest.raises(package.OutputError, match="holds a reviewed map"):
        make_map(tmp_path, SIZE, SQUARES)
    (scene / "probability.tif").unlink()
    with pytest.raises(package.OutputError, match="holds a reviewed map"):
        make_map(tmp_path, SIZE, SQUARES, resume=True)
    make_map(tmp_path, SIZE, SQUARES, overwrite=True)
    assert not (scene / "accepted.gpkg").exists()


def test_two_reviewers_of_one_name_are_told_apart(scene, tmp_path, ctma):
    square = square_of(scene, 1)
    files = [
        decide(tmp_path / f"{name}.geojson", scene, [(1, verdict, square, {})])
        for name, verdict in (("first", "right"), ("second", "wrong"))
    ]
    said = ctma("review", scene, "--apply", files[0], "--apply", files[1]).stdout
    assert "shown twice" not in said
    assert "first.geojson) and Ada" in said


def test_outlines_outside_of_the_map_are_refused(scene, tmp_path, ctma):
    file = decide(tmp_path / "d.geojson", scene, [(None, "missed", (9000, 9000, 9), {})])
    assert "outside of the map" in ctma("review", scene, "--apply", file, code=2).stderr
    assert not (scene / "accepted.gpkg").exists()


def test_a_map_without_changes_keeps_its_form(tmp_path, ctma):
    empty = make_map(tmp_path, SIZE, [])
    file = decide(tmp_path / "d.geojson", empty, [(None, "missed", (80, 85, 12), {})])
    assert "1 missed" in ctma("review", empty, "--apply", file).stdout
    kinds = [
        pyogrio.read_info(empty / f"{name}.gpkg", layer=name)["geometry_type"]
        for name in ("changes", "accepted")
    ]
    assert kinds == ["Polygon", "MultiPolygon"]


def test_a_map_that_moved_with_its_rasters_shows_both_dates(tmp_path, ctma):
    made = make_map(tmp_path / "first", SIZE, SQUARES)
    (tmp_path / "first").rename(tmp_path / "moved")
    assert not ctma("review", tmp_path / "moved" / made.name).stderr

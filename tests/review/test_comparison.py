"""``ctma compare`` of two maps, or of a map and reference polygons."""

import json

import geopandas
import hypothesis.strategies as st
import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.warp import transform
from shapely import box

from ctma.review.matching import match
from support.maps import Brighter, data_of, make_map
from support.scenes import predict_scene, read, write_raster

SIZE = (120, 140)
KEPT, LOST, SPLIT = (10, 10, 12, 200), (60, 10, 10, 200), (10, 50, 24, 200)
PARTS = [(10, 50, 10, 200), (24, 64, 10, 200)]
MERGED = [(60, 50, 10, 200), (74, 64, 10, 200)]
WHOLE = (60, 50, 24, 200)
GAINED = (100, 90, 14, 200)
OLD = [KEPT, LOST, SPLIT, *MERGED]
NEW = [KEPT, *PARTS, WHOLE, GAINED]


@pytest.fixture
def maps(tmp_path):
    return (
        make_map(tmp_path, SIZE, OLD, ("a.tif", "b.tif"), "OLD"),
        make_map(tmp_path, SIZE, NEW, ("c.tif", "d.tif"), "NEW"),
    )


def read_differences(folder):
    return geopandas.read_file(folder / "differences.gpkg", layer="differences")


def test_changes_are_kept_gained_lost_split_and_merged(maps, tmp_path, ctma):
    run = ctma("compare", *maps, "-o", tmp_path / "D", "--json")
    found = json.loads(run.stdout)
    assert found["counts"] == {
        "kept": 1, "gained": 1, "lost": 1, "split": 1, "merged": 1, "regrouped": 0
    }  # fmt: skip
    sides = {"kept": 12, "gained": 14, "lost": 10, "split": 2**0.5 * 10, "merged": 24}
    for kind, side in sides.items():
        assert found["areas"][kind] == pytest.approx(side**2 / 4, rel=0.002)
    old, new = (read(folder / "mask.tif") for folder in maps)
    pixels = found["pixels"]
    assert pixels["both"] == int((old & new).sum())
    assert (pixels["first_only"], pixels["second_only"]) == (
        int((old > new).sum()), int((new > old).sum())
    )  # fmt: skip
    assert pixels["share"] == pytest.approx((old == new).mean())
    differences = read_differences(tmp_path / "D").set_index("kind")
    assert len(differences) == 5
    assert len(differences.loc["split"]["second_ids"].split(", ")) == 2
    assert differences.loc["lost"]["second_m2"] == 0
    split = differences.loc["split"]
    assert split["common_m2"] == pytest.approx(50, rel=0.002)
    data = data_of(tmp_path / "D/differences.html")
    kinds = sorted(change["kind"] for change in data["changes"])
    assert kinds == ["gained", "lost", "merged", "split"]
    said = ctma("compare", *maps, "-o", tmp_path / "D", "--overwrite").stdout
    assert "what became of changes" in said
    assert "of the pixels alike" in said


def test_a_map_is_itself(maps, tmp_path, ctma):
    found = json.loads(ctma("compare", maps[0], maps[0], "-o", tmp_path / "D", "--json").stdout)
    assert {kind for kind, count in found["counts"].items() if count} == {"kept"}
    assert (found["pixels"]["share"], found["pixels"]["iou"]) == (1, 1)


def test_maps_in_other_grids_and_crs_are_compared(tmp_path, ctma):
    first = make_map(tmp_path, SIZE, OLD, ("a.tif", "b.tif"), "OLD")
    (west,), (north,) = transform(CRS.from_epsg(32643), CRS.from_epsg(4326), [500_000], [4_000_000])
    # Half a metre, in degrees; the second map ends within the first one.
    steps = 0.5 / (111_320 * np.cos(np.radians(north))), 0.5 / 111_000
    second = make_map(
        tmp_path, (100, 140), [KEPT, *PARTS, WHOLE], ("c.tif", "d.tif"), "NEW",
        crs=CRS.from_epsg(4326), transform=from_origin(west, north, *steps),
    )  # fmt: skip
    found = json.loads(ctma("compare", first, second, "-o", tmp_path / "D", "--json").stdout)
    assert found["counts"]["kept"] == 1
    assert found["counts"]["split"] == 1
    assert found["counts"]["merged"] == 1
    assert found["counts"]["lost"] == 1
    # Of 144 + 576 + 576 + 100 pixels, 144 + 200 + 200 are change in both.
    assert found["pixels"]["iou"] == pytest.approx(544 / 1396, abs=0.03)
    back = json.loads(ctma("compare", second, first, "-o", tmp_path / "E", "--json").stdout)
    assert (back["counts"]["merged"], back["counts"]["gained"]) == (1, 1)


def test_what_lies_outside_of_the_other_map_does_not_count(tmp_path, ctma):
    first = make_map(tmp_path, SIZE, [KEPT, GAINED], ("a.tif", "b.tif"), "OLD")
    second = make_map(tmp_path, (60, 60), [KEPT], ("c.tif", "d.tif"), "NEW")
    run = ctma("compare", first, second, "-o", tmp_path / "D")
    assert "1 change outside of the other map" in run.stdout
    assert len(read_differences(tmp_path / "D")) == 1


def test_a_map_is_compared_with_reference_polygons(maps, tmp_path, ctma):
    def place(column, row, side, _):
        west, north = 500_000 + column / 2, 4_000_000 - row / 2
        return box(west, north - side / 2, west + side / 2, north)

    reference = geopandas.GeoSeries([place(*square) for square in NEW], crs=32643)
    reference.to_crs(4326).to_file(tmp_path / "truth.geojson")
    found = json.loads(
        ctma("compare", maps[0], tmp_path / "truth.geojson", "-o", tmp_path / "D", "--json").stdout
    )
    assert found["counts"] == {
        "kept": 1, "gained": 1, "lost": 1, "split": 1, "merged": 1, "regrouped": 0
    }  # fmt: skip
    old, new = (read(folder / "mask.tif") for folder in maps)
    assert found["pixels"]["both"] == int((old & new).sum())


def test_what_cannot_be_compared_is_one_line(maps, tmp_path, ctma):
    points = geopandas.GeoSeries.from_xy([1], [2], crs=4326)
    points.to_file(tmp_path / "points.gpkg")
    geopandas.GeoSeries([box(0, 0, 1, 1)]).to_file(tmp_path / "nowhere.gpkg")
    (tmp_path / "half").mkdir()
    (tmp_path / "half/mask.tif").touch()
    for arguments, said in (
        ((maps[0], maps[1]), "into a folder that --output names"),
        ((maps[0], maps[1], maps[0], "-o", tmp_path / "D"), "two maps are compared at a time"),
        ((maps[0], tmp_path / "none.gpkg", "-o", tmp_path / "D"), "no such file"),
        ((maps[0], tmp_path / "points.gpkg", "-o", tmp_path / "D"), "expected polygons"),
        ((maps[0], tmp_path / "nowhere.gpkg", "-o", tmp_path / "D"), "has no CRS"),
        ((maps[0], tmp_path / "half", "-o", tmp_path / "D"), "no finished map"),
    ):
        assert said in ctma("compare", *arguments, code=2).stderr
    assert not (tmp_path / "D").exists()
    ctma("compare", *maps, "-o", tmp_path / "D")
    assert "is there already" in ctma("compare", *maps, "-o", tmp_path / "D", code=2).stderr


squares = st.lists(
    st.builds(
        lambda x, y, side: box(x, y, x + side, y + side),
        st.integers(0, 40), st.integers(0, 40), st.integers(1, 12),
    ),
    max_size=8,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(squares, squares)
def test_every_change_is_in_one_group_and_swapped_maps_swap_the_kinds(first, second):
    found = match(first, second)
    assert sorted(index for one in found for index in one.first) == [*range(len(first))]
    assert sorted(index for one in found for index in one.second) == [*range(len(second))]
    mirrored = {
        "gained": "lost", "lost": "gained", "split": "merged", "merged": "split"
    }  # fmt: skip
    there = sorted((mirrored.get(one.kind, one.kind), one.second, one.first) for one in found)
    back = sorted((one.kind, one.first, one.second) for one in match(second, first))
    assert there == back
    for one in found:
        if one.kind == "lost":
            (lost,) = (first[index] for index in one.first)
            shares = [
                lost.intersection(other).area / min(lost.area, other.area) for other in second
            ]
            assert all(share < 0.1 for share in shares)


def test_the_grid_of_a_comparison_is_that_of_the_map(maps, tmp_path, ctma):
    ctma("compare", *maps, "-o", tmp_path / "D")
    with rasterio.open(maps[0] / "mask.tif") as raster:
        assert read_differences(tmp_path / "D").crs == raster.crs.to_wkt()


def test_where_one_map_has_no_data_nothing_is_gained_or_lost(maps, tmp_path, ctma):
    holes = np.full((3, *SIZE), 60, np.uint8)
    holes[:, 80:, 90:] = 0  # over what is gained
    paths = [write_raster(tmp_path / f"{n}.tif", holes, nodata=0) for n in "ef"]
    predict_scene(*paths, Brighter().eval(), tmp_path / "HOLES")
    found = json.loads(
        ctma("compare", maps[1], tmp_path / "HOLES", "-o", tmp_path / "D", "--json").stdout
    )
    assert (found["outside"], found["counts"]["lost"]) == (1, 4)


def test_maps_without_a_common_pixel_and_other_things_are_one_line(maps, tmp_path, ctma):
    far = make_map(
        tmp_path,
        SIZE,
        OLD,
        ("e.tif", "f.tif"),
        "FAR",
        transform=from_origin(600_000, 4e6, 0.5, 0.5),
    )
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    (tmp_path / "masks/mask").mkdir(parents=True)
    (tmp_path / "one.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    for other, said in (
        (far, "have no pixel in common"),
        (tmp_path / "table.csv", "holds a table without polygons"),
        (tmp_path / "masks", "holds masks of images"),
    ):
        assert said in ctma("compare", maps[0], other, "-o", tmp_path / "D", code=2).stderr
    one = tmp_path / "one.geojson"
    line = ctma("compare", one, one, "-o", tmp_path / "D", code=2).stderr
    assert "one of both must be the folder of a map" in line


def test_outlines_that_overlap_and_also_touch_are_measured(tmp_path, ctma):
    folder = make_map(tmp_path, SIZE, [KEPT], out="OUT")
    place = geopandas.read_file(folder / "changes.gpkg").geometry[0]
    west, south, east, north = place.bounds
    middle, pixel = (west + east) / 2, 0.5
    # Shares the right half of the change, and along the left half only its edge.
    half = box(middle, south, east, north).union(box(west, north, middle, north + pixel))
    geopandas.GeoDataFrame(geometry=[half], crs=read_crs(folder)).to_file(tmp_path / "half.gpkg")
    ctma("compare", folder, tmp_path / "half.gpkg", "-o", tmp_path / "D")
    (common,) = read_differences(tmp_path / "D")["common_m2"]
    assert common == pytest.approx(place.area / 2, rel=0.01)


def read_crs(folder):
    with rasterio.open(folder / "mask.tif") as raster:
        return raster.crs.to_wkt()

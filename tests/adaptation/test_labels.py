"""Polygons, rasters and decisions become tiles with labels; train and held out share no ground."""

import json
from itertools import product

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

import ctma
from ctma import (
    CtmaWarning,
    DataError,
    LabelSettings,
    OutputError,
    prepare_labels,
    prepare_reviewed,
)
from ctma.adaptation.holdout import Cells, Counts, distance, part_tiles
from ctma.data.doctor import check as examine
from ctma.data.pairs import Coding, read_change
from ctma.data.rasters import read_date
from ctma.data.readers import find_pairs
from ctma.errors import CtmaError, SettingError
from ctma.models.usage import Usage
from ctma.types import IGNORED
from support.commands import run_here
from support.decisions import decide, square_of
from support.maps import Brighter, make_map
from support.scenes import UTM, smooth, write_raster

SIDE = 512
SQUARES = [(30, 40, 24), (300, 60, 30), (60, 300, 40), (400, 420, 36), (220, 260, 20)]
"""Changed squares of the scene: column, row and side."""


def outline(column, row, side, origin=(500_000, 4_000_000), pixel=0.5):
    west, north = origin[0] + pixel * column, origin[1] - pixel * row
    return shapely.box(west, north - pixel * side, west + pixel * side, north)


def write_scene(folder, squares=SQUARES, size=SIDE, bands=3, transform=None):
    """Two rasters; the squares are brighter afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    before = smooth(0, size, size, bands) // 3
    after = before.copy()
    for column, row, side in squares:
        after[:, row : row + side, column : column + side] = 230
    for name, image in (("before", before), ("after", after)):
        write_raster(folder / f"{name}.tif", image, transform, photometric="MINISBLACK")
    return folder / "before.tif", folder / "after.tif"


def write_polygons(path, squares=SQUARES, crs=UTM, shapes=None, **columns):
    shapes = [outline(*square) for square in squares] if shapes is None else shapes
    columns = {"class": ["new"] * len(shapes)} | columns
    table = geopandas.GeoDataFrame(columns, geometry=shapes, crs=UTM.to_wkt())
    table = table.to_crs(crs.to_wkt()) if crs else table.set_crs(None, allow_override=True)
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_file(path)
    return path


def truth(squares=SQUARES, size=SIDE):
    change = np.zeros((size, size), np.uint8)
    for column, row, side in squares:
        change[row : row + side, column : column + side] = 1
    return change


def put_together(data, splits=("train", "val"), size=SIDE):
    """The labels of all tiles, on the grid of the scene; pixels without a tile are ignored."""
    whole = np.full((size, size), IGNORED, np.uint8)
    times = np.zeros((size, size), int)
    for split in splits:
        for pair in find_pairs(data, split) if (data / split).is_dir() else []:
            change = read_change(pair.change, Coding(1))
            with rasterio.open(pair.change) as raster:
                left, top = (
                    round((raster.transform.c - 500_000) * 2),
                    round((4_000_000 - raster.transform.f) * 2),
                )
            area = slice(top, top + change.shape[0]), slice(left, left + change.shape[1])
            labelled = change != IGNORED
            whole[area][labelled] = change[labelled]
            times[area] += labelled
    return whole, times


@pytest.fixture
def scene(tmp_path):
    return write_scene(tmp_path / "scene")


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "fgb", "shp", "parquet"])
def test_polygons_of_any_format_and_crs_are_burned_at_the_pixels(tmp_path, scene, suffix):
    degrees = CRS.from_epsg(4326)
    labels = write_polygons(tmp_path / f"l.{suffix}", crs=degrees)
    made = prepare_labels(*scene, labels, tmp_path / "data", LabelSettings(tile=128, holdout=0))
    found, _ = put_together(tmp_path / "data")
    np.testing.assert_array_equal(found, truth())
    assert made.splits["train"].changed == truth().sum()
    assert made.polygons.read == len(SQUARES)


def test_tiles_hold_the_pixels_and_the_names_of_both_dates(tmp_path):
    scene = write_scene(tmp_path / "scene", bands=4)
    labels = write_polygons(tmp_path / "l.gpkg")
    settings = LabelSettings(tile=128, bands="red,green,blue,nir", holdout=1)
    made = prepare_labels(*scene, labels, tmp_path / "data", settings)
    assert made.bands == ("red", "green", "blue", "nir")
    pair = next(p for p in find_pairs(tmp_path / "data", "val") if p.name.endswith("001_002"))
    with rasterio.open(pair.after) as tile, rasterio.open(scene[1]) as whole:
        assert tile.descriptions == made.bands
        assert tile.crs == whole.crs
        np.testing.assert_array_equal(tile.read(), whole.read()[:, 96:288, 224:416])


def test_where_chooses_polygons_by_their_attributes(tmp_path, scene):
    kinds = {"class": ["new", "old", "new", "old", "old"]}
    for suffix in ("gpkg", "parquet"):
        labels = write_polygons(tmp_path / f"l.{suffix}", **kinds)
        settings = LabelSettings(tile=128, holdout=0, where="class = 'new'")
        prepare_labels(*scene, labels, tmp_path / f"data-{suffix}", settings)
        found, _ = put_together(tmp_path / f"data-{suffix}")
        np.testing.assert_array_equal(found, truth([SQUARES[0], SQUARES[2]]))


def test_a_pixel_counts_by_its_centre_or_by_touch(tmp_path, scene):
    shifted = [outline(column + 0.6, row + 0.6, side) for column, row, side in SQUARES]
    labels = write_polygons(tmp_path / "l.gpkg", shapes=shifted)
    changed = {}
    for all_touched in (False, True):
        settings = LabelSettings(tile=128, holdout=0, all_touched=all_touched)
        made = prepare_labels(*scene, labels, tmp_path / str(all_touched), settings)
        changed[all_touched] = made.splits["train"].changed
    assert changed[False] == sum(side**2 for *_, side in SQUARES)
    assert changed[True] == sum((side + 1) ** 2 for *_, side in SQUARES)


def test_odd_polygons_are_repaired_and_counted_aloud(tmp_path, scene):
    bow = shapely.Polygon(
        [(500_010, 3_999_990), (500_030, 3_999_970), (500_030, 3_999_990), (500_010, 3_999_970)]
    )
    several = shapely.MultiPolygon([outline(300, 60, 30), outline(60, 300, 40)])
    far = shapely.box(0, 0, 10, 10)
    labels = write_polygons(tmp_path / "l.gpkg", shapes=[bow, several, far, shapely.Polygon()])
    out = run_here(
        "prepare", "labels", *scene, labels, "-o", tmp_path / "data", "--holdout", "0"
    ).stdout
    said = (
        "4 polygons, of which 1 repaired, 1 of several parts, 1 without area, 1 outside the scene"
    )
    assert said in " ".join(out.split())


def test_what_lies_outside_the_extent_has_no_label(tmp_path, scene):
    labels = write_polygons(tmp_path / "l.gpkg")
    seen = write_polygons(tmp_path / "seen.gpkg", shapes=[outline(0, 0, 256)])
    data = []
    for name, squares in (("a", SQUARES), ("b", [*SQUARES[:1], (400, 100, 50)])):
        labels = write_polygons(tmp_path / f"{name}.gpkg", squares)
        settings = LabelSettings(tile=128, holdout=0, extent=seen)
        prepare_labels(*scene, labels, tmp_path / name, settings)
        data.append(
            {
                path.relative_to(tmp_path / name): path.read_bytes()
                for path in (tmp_path / name / "train").rglob("*.tif")
            }
        )
    assert data[0] == data[1]
    expected = np.full((SIDE, SIDE), IGNORED, np.uint8)
    expected[:256, :256] = truth()[:256, :256]
    np.testing.assert_array_equal(put_together(tmp_path / "a")[0], expected)


def test_a_raster_of_labels_works_on_any_grid(tmp_path, scene):
    finer = truth().repeat(2, axis=0).repeat(2, axis=1)[None]
    finer[:, :200] = 255
    place = from_origin(500_000, 4_000_000, 0.25, 0.25)
    labels = write_raster(tmp_path / "l.tif", finer, place, nodata=255)
    prepare_labels(*scene, labels, tmp_path / "data", LabelSettings(tile=128, holdout=0))
    expected = truth()
    expected[:100] = IGNORED
    np.testing.assert_array_equal(put_together(tmp_path / "data")[0], expected)
    whole = write_raster(tmp_path / "w.tif", 255 * truth()[None])
    prepare_labels(*scene, whole, tmp_path / "w", LabelSettings(tile=128, holdout=0))
    np.testing.assert_array_equal(put_together(tmp_path / "w")[0], truth())


def test_holes_of_a_date_have_no_label(tmp_path, scene):
    with rasterio.open(scene[1], "r+") as raster:
        values = raster.read()
        values[:, 300:340] = 0
        raster.write(values)
        raster.nodata = 0
    labels = write_polygons(tmp_path / "l.gpkg")
    prepare_labels(*scene, labels, tmp_path / "data", LabelSettings(tile=128, holdout=0))
    expected = truth()
    expected[300:340] = IGNORED
    np.testing.assert_array_equal(put_together(tmp_path / "data")[0], expected)


cells = st.integers(1, 9).flatmap(
    lambda rows: st.integers(1, 9).map(lambda columns: (rows, columns))
)


@settings(deadline=None, max_examples=150)
@given(
    shape=cells, cut=st.tuples(st.integers(0, 60), st.integers(0, 60)), share=st.floats(0, 1),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_training_and_held_out_tiles_are_a_tile_apart_and_each_pixel_is_scored_once(
    shape, cut, share, seed
):
    side = 64
    grid = Cells(side * shape[0] - cut[0], side * shape[1] - cut[1], side)
    rng = np.random.default_rng(seed)
    labelled = rng.integers(0, 2, grid.shape) * side**2
    changed = labelled // 5 * rng.integers(0, 2, grid.shape)
    tiles = [*part_tiles(grid, Counts(labelled, changed), share)]
    train = [tile for tile in tiles if tile.split == "train"]
    val = [tile for tile in tiles if tile.split == "val"]
    for one, other in product(train, val):
        assert distance(one.image, other.image) >= side
    scored = np.zeros((grid.height, grid.width), int)
    for tile in tiles:
        assert min(tile.own.height, tile.own.width) >= min(side // 2, grid.height, grid.width)
    for tile in val:
        scored[tile.own.area] += 1
        rows, columns = tile.image.area
        assert 0 <= rows.start <= tile.own.top
        assert 0 <= columns.start <= tile.own.left
        assert rows.stop <= grid.height
        assert columns.stop <= grid.width
    assert scored.max() <= 1
    if share == 1:
        assert not train
        assert len(val) == (labelled > 0).sum()


def test_held_out_tiles_hold_about_the_share_and_change(tmp_path):
    rng = np.random.default_rng(0)
    squares = [(int(c), int(r), 12) for c, r in rng.integers(0, 1010, (80, 2))]
    scene = write_scene(tmp_path / "scene", squares, 1024)
    labels = write_polygons(tmp_path / "l.gpkg", squares)
    made = prepare_labels(*scene, labels, tmp_path / "data", LabelSettings(tile=128))
    held, left = made.splits["val"], made.splits["train"]
    assert 0.1 < held.labelled / 1024**2 < 0.3
    assert 0.1 < held.changed / truth(squares, 1024).sum() < 0.3
    assert left.labelled > 0.5 * 1024**2
    _, times = put_together(tmp_path / "data", ["val"], 1024)
    assert times.max() == 1
    assert not [one for one in examine(tmp_path / "data").findings if "ground" in one.kind]


def test_scenes_that_overlap_leak_no_ground_either(tmp_path, scene):
    labels = write_polygons(tmp_path / "l.gpkg")
    data = tmp_path / "data"
    first = prepare_labels(*scene, labels, data, LabelSettings(tile=64))
    moved = from_origin(500_000 + 0.5 * 97.3, 4_000_000 - 0.5 * 41.7, 0.5, 0.5)
    other = write_scene(tmp_path / "other", SQUARES, transform=moved)
    second = prepare_labels(*other, labels, data, LabelSettings(tile=64, holdout=0, add=True))
    assert second.name == "before-2"
    assert second.left_out > 0
    assert len(find_pairs(data, "train")) == sum(
        one.splits["train"].tiles for one in (first, second)
    )
    assert not [one for one in examine(data).findings if "ground" in one.kind]
    whole = prepare_labels(*other, labels, data, LabelSettings(tile=64, holdout=1, add=True))
    assert not [one for one in examine(data).findings if "ground" in one.kind]
    assert whole.splits["train"].tiles == 0
    assert [one["name"] for one in json.loads((data / "labels.json").read_text())["scenes"]] == [
        "before", "before-2", "before-3",
    ]  # fmt: skip


def test_the_doctor_finds_shared_and_near_ground(tmp_path, scene):
    labels = write_polygons(tmp_path / "l.gpkg")
    data = tmp_path / "data"
    prepare_labels(*scene, labels, data, LabelSettings(tile=128, holdout=0))
    for number, name in enumerate(("000_000", "003_003")):
        for kind in ("before", "after", "change"):
            (data / "val" / kind).mkdir(parents=True, exist_ok=True)
            source = data / "train" / kind / f"before_{name}.tif"
            target = data / "val" / kind / f"v{name}.tif"
            (source.rename if number else target.write_bytes)(
                target if number else source.read_bytes()
            )
    kinds = {(one.kind, one.severity) for one in examine(data).findings if "ground" in one.kind}
    assert kinds == {("shared ground", "error"), ("near ground", "warning")}


def test_decisions_become_labels_where_the_reviewer_looked(tmp_path):
    squares = [(60, 60, 40, 220), (700, 120, 44, 210), (120, 700, 40, 200), (720, 760, 40, 190)]
    folder = make_map(tmp_path, (1000, 1000), squares)
    ids = range(1, 5)
    places = {number: square_of(folder, number) for number in ids}
    verdicts = dict(zip(ids, ("right", "wrong", "unsure", None), strict=True))
    decisions = [(number, verdicts[number], places[number], {}) for number in (1, 2, 3)]
    drawn = (150, 65, 20)
    file = decide(tmp_path / "d.geojson", folder, [*decisions, (None, "missed", drawn, {})])
    made = prepare_reviewed(folder, file, tmp_path / "data", LabelSettings(tile=256, holdout=0))
    found, _ = put_together(tmp_path / "data", size=1000)

    def values(square, around=0):
        column, row, side = map(round, square)
        area = found[row - around : row + side + around, column - around : column + side + around]
        return {*np.unique(area).tolist()}

    assert values(places[1]) == values(drawn) == {1}
    assert values(places[2]) == {0}
    assert values(places[2], around=20) == {0}
    assert values(places[3]) == values(places[4]) == {IGNORED}
    assert made.splits["train"].changed == sum(
        side**2 for *_, side in (map(round, places[1]), drawn)
    )
    assert (found == IGNORED).mean() > 0.7


MISTAKES = {
    "no CRS": ({"crs": None}, {}, "has no CRS"),
    "outside": ({"shapes": [shapely.box(0, 0, 9, 9)]}, {}, "no polygon lies in the scene"),
    "empty": ({"shapes": []}, {}, "holds no polygon"),
    "points": ({"shapes": [shapely.Point(0, 0)]}, {}, "holds Point, expected polygons"),
    "attribute": ({}, {"where": "kind = 1"}, "`where` kind = 1 does not fit; attributes: class"),
    "no match": ({}, {"where": "class = 'x'"}, "holds no polygon where class = 'x'"),
    "all change": ({"shapes": [outline(-10, -10, 900)]}, {}, "every labelled pixel is change"),
    "too small": ({}, {"tile": 512}, "too small to hold out"),
    "band": ({}, {"bands": "red,green,blue,nir"}, "has red, green, blue; say which band is meant"),
    "bands": ({}, {"bands": "red=,green"}, "expected names"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISTAKES)
def test_mistakes_are_one_line_and_nothing_is_written(tmp_path, scene, kind):
    written, options, message = MISTAKES[kind]
    suffix = "shp" if kind in ("no CRS",) else "gpkg"
    labels = write_polygons(tmp_path / f"l.{suffix}", **written)
    with pytest.raises(CtmaError, match=message):
        prepare_labels(*scene, labels, tmp_path / "data", LabelSettings(**{"tile": 128} | options))
    assert not (tmp_path / "data").exists()
    assert not [*tmp_path.glob(".part*")]


def test_dates_of_other_bands_and_folders_of_others_are_refused(tmp_path, scene):
    labels = write_polygons(tmp_path / "l.gpkg")
    other = write_scene(tmp_path / "other", bands=4)
    with pytest.raises(DataError, match=r"has the bands red, green, blue, and .* has band 1"):
        prepare_labels(scene[0], other[1], labels, tmp_path / "data")
    (tmp_path / "data").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        prepare_labels(*scene, labels, tmp_path / "data")
    with pytest.raises(DataError, match="is no data set of ctma prepare labels"):
        prepare_labels(*scene, labels, tmp_path / "data", LabelSettings(add=True))
    with pytest.raises(SettingError, match=r"holdout.* 1\.5"):
        LabelSettings(holdout=1.5)
    with pytest.raises(DataError, match="`where` is for polygons"):
        prepare_labels(*scene, scene[0], tmp_path / "d", LabelSettings(where="a=1"))
    with pytest.raises(DataError, match="has 3 bands, expected one of labels"):
        prepare_labels(*scene, scene[0], tmp_path / "d")
    odd = write_raster(tmp_path / "odd.tif", 7 * truth()[None])
    with pytest.raises(DataError, match="label of values 0, 7"):
        prepare_labels(*scene, odd, tmp_path / "d")
    assert (
        run_here("prepare", "labels", *scene, "-o", tmp_path / "d", code=2).stderr.count("\n") == 1
    )


def test_a_scene_without_change_may_be_added(tmp_path, scene):
    labels = write_polygons(tmp_path / "l.gpkg")
    data = tmp_path / "data"
    prepare_labels(*scene, labels, data, LabelSettings(tile=64))
    far = from_origin(600_000, 4_000_000, 0.5, 0.5)
    other = write_scene(tmp_path / "other", [], transform=far)
    still = write_raster(tmp_path / "still.tif", truth([])[None], far)
    with pytest.warns(CtmaWarning, match="shows no change"):
        made = prepare_labels(*other, still, data, LabelSettings(tile=64, add=True))
    assert made.splits["train"].tiles == 64


def test_another_tile_size_hardly_moves_f1(tmp_path):
    squares = [(20 + 61 * i, 20 + 61 * j, 14 + (i * j) % 20) for i in range(8) for j in range(8)]
    scene = write_scene(tmp_path / "scene", squares)
    moved = [(c + 2, r + 1, s) for c, r, s in squares]
    labels = write_polygons(tmp_path / "l.gpkg", moved)
    scores = []
    for tile in (64, 100, 256):
        data = tmp_path / str(tile)
        prepare_labels(*scene, labels, data, LabelSettings(tile=tile, holdout=1))
        result = ctma.evaluate(Brighter().eval(), data, "val", output=tmp_path / f"{tile}.json")
        scores.append(result.record.scores)
    assert len({score.pixels for score in scores}) == 1
    assert max(score.f1 for score in scores) - min(score.f1 for score in scores) < 0.003


@pytest.mark.parametrize(("kind", "nodata"), [("int16", -9999), ("float32", np.nan), ("uint8", 0)])
def test_the_nodata_value_of_a_label_raster_is_no_label_unless_it_is_0(
    tmp_path, scene, kind, nodata
):
    label = truth().astype(kind)
    if nodata != 0:
        label[:100] = nodata
    labels = write_raster(tmp_path / "l.tif", label[None], nodata=nodata)
    prepare_labels(*scene, labels, tmp_path / "data", LabelSettings(tile=128, holdout=0))
    expected = truth()
    if nodata != 0:
        expected[:100] = IGNORED
    np.testing.assert_array_equal(put_together(tmp_path / "data")[0], expected)


def test_polygons_that_their_crs_does_not_reach_count_as_outside(tmp_path, scene):
    degrees = CRS.from_epsg(4326)
    labels = write_polygons(tmp_path / "l.gpkg", crs=degrees)
    table = geopandas.read_file(labels)
    table.loc[0, "geometry"] = shapely.box(10, 89, 12, 95)
    table.to_file(labels)
    made = prepare_labels(*scene, labels, tmp_path / "data", LabelSettings(tile=128))
    assert made.polygons.outside == 1


def test_a_file_of_several_layers_is_told(tmp_path, scene):
    labels = write_polygons(tmp_path / "l.gpkg")
    geopandas.read_file(labels).to_file(labels, layer="other")
    with pytest.warns(CtmaWarning, match="has the layers l, other; the first one is read"):
        prepare_labels(*scene, labels, tmp_path / "data", LabelSettings(tile=128))


def test_an_interrupted_addition_leaves_the_data_set_usable(tmp_path, scene):
    labels = write_polygons(tmp_path / "l.gpkg")
    data = tmp_path / "data"
    settings = LabelSettings(tile=64, add=True)
    prepare_labels(*scene, labels, data, LabelSettings(tile=64))
    former = sorted(path.name for path in data.rglob("*.tif"))
    # As a killed run leaves it: some files of a scene that the record lacks.
    (data / ".part").mkdir()
    for path in list((data / "train/before").glob("*.tif"))[:3]:
        (path.parent / path.name.replace("before", "before-2")).write_bytes(path.read_bytes())
    far = from_origin(600_000, 4_000_000, 0.5, 0.5)
    other = write_scene(tmp_path / "other", transform=far)
    moved = [outline(*square, origin=(600_000, 4_000_000)) for square in SQUARES]
    more = write_polygons(tmp_path / "more.gpkg", shapes=moved)
    made = prepare_labels(*other, more, data, settings)
    assert made.name == "before-2"
    assert not examine(data).errors
    assert {*former} <= {path.name for path in data.rglob("*.tif")}


def test_bands_keep_their_names_where_gdal_tags_the_fourth_as_alpha(tmp_path):
    scene = write_scene(tmp_path / "scene", bands=4)
    for path in scene:
        with rasterio.open(path) as raster:
            values = raster.read()
        write_raster(path, values, photometric="RGB")
        with rasterio.open(path, "r+") as raster:
            raster.descriptions = ("blue", "green", "red", "nir")
    labels = write_polygons(tmp_path / "l.gpkg")
    made = prepare_labels(*scene, labels, tmp_path / "data", LabelSettings(tile=128))
    assert made.bands == ("blue", "green", "red", "nir")
    pair = find_pairs(tmp_path / "data", "train")[0]
    seen = read_date(pair.after, Usage(), 1)
    with rasterio.open(pair.after) as raster:
        np.testing.assert_array_equal(seen, raster.read([3, 2, 1]).transpose(1, 2, 0))


def test_a_map_of_bands_with_other_names_teaches_red_green_and_blue(tmp_path):
    folder = make_map(tmp_path, (300, 300), [(60, 60, 40, 220), (200, 200, 40, 210)])
    for name in ("before.tif", "after.tif"):
        with rasterio.open(tmp_path / name, "r+") as raster:
            raster.descriptions = ("B04", "B03", "B02")
            raster.colorinterp = [ColorInterp.blue, ColorInterp.green, ColorInterp.red]
    places = [(number, "right", square_of(folder, number), {}) for number in (1, 2)]
    file = decide(tmp_path / "d.geojson", folder, places)
    made = prepare_reviewed(folder, file, tmp_path / "data", LabelSettings(tile=64, holdout=0))
    assert made.bands == ("red", "green", "blue")
    named = LabelSettings(tile=64, holdout=0, bands="nir,red,green")
    other = prepare_reviewed(folder, file, tmp_path / "other", named)
    assert other.bands == ("nir", "red", "green")


def test_the_doctor_finds_shared_ground_among_files_of_other_kinds(tmp_path, scene):
    labels = write_polygons(tmp_path / "l.gpkg")
    data = tmp_path / "data"
    prepare_labels(*scene, labels, data, LabelSettings(tile=128))
    held = find_pairs(data, "val")[0]
    picture = smooth(3, 128, 128).transpose(1, 2, 0)
    for kind, path in (("before", held.before), ("after", held.after), ("change", held.change)):
        (data / "train" / kind / "zz.tif").write_bytes(path.read_bytes())
        image = picture if kind != "change" else (picture[..., 0] > 99).astype(np.uint8)
        Image.fromarray(image).save(data / "train" / kind / "aa.png")
    assert any(one.kind == "shared ground" for one in examine(data).findings)

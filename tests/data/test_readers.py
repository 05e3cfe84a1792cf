"""Where pairs are found, and how images and labels are read."""

import json
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ctma.data.dataset import PairDataset
from ctma.data.doctor import check as examine
from ctma.data.images import read_image
from ctma.data.pairs import Coding, find_coding, read_sample
from ctma.data.readers import find_pairs
from ctma.errors import DataError, ImageError
from ctma.types import IGNORED
from support.commands import refused
from support.images import LABEL, random_image, write_pair, write_split
from support.scenes import smooth


@pytest.mark.parametrize("subset", ["Real/subset", "Model/with_shift", "Model/without_shift"])
def test_svcd_is_read_in_all_three_subsets(tmp_path, subset):
    for kind, image in (("A", random_image(1)), ("B", random_image(2)), ("OUT", LABEL)):
        folder = tmp_path / subset / "train" / kind
        folder.mkdir(parents=True)
        suffix = "bmp" if kind == "OUT" and "with_shift" in subset else "jpg"
        Image.fromarray(image).save(folder / f"00001.{suffix}")
    (pair,) = find_pairs(tmp_path / subset, "train")
    change = PairDataset([pair], Coding(255)).read(0)[2]
    assert (change == (LABEL > 127)).mean() > 0.99


def test_cut_scenes_in_folders_of_their_own_are_read(tmp_path):
    write_split(tmp_path / "val", ["scene_1/scene_1_0", "scene_1/scene_1_1", "scene_2/scene_2_0"])
    names = [pair.name for pair in find_pairs(tmp_path, "val")]
    assert names == ["scene_1/scene_1_0", "scene_1/scene_1_1", "scene_2/scene_2_0"]


def test_a_list_of_names_makes_a_split(tmp_path):
    write_split(tmp_path, ["a", "b", "c"])
    (tmp_path / "list").mkdir()
    (tmp_path / "list/train.txt").write_text("c.png\na.png\n")
    assert [pair.name for pair in find_pairs(tmp_path, "train")] == ["a", "c"]
    assert len(find_pairs(tmp_path, "all")) == 3


def test_names_may_hold_dots_and_lists_may_leave_off_suffixes(tmp_path):
    write_split(tmp_path, ["scene.1", "scene.2"])
    (tmp_path / "list").mkdir()
    (tmp_path / "list/val.txt").write_text("scene.2\r\n\r\n")
    assert [pair.name for pair in find_pairs(tmp_path, "val")] == ["scene.2"]


def test_a_list_may_be_in_utf_16(tmp_path):
    write_split(tmp_path, ["a", "b", "c"])
    (tmp_path / "list").mkdir()
    (tmp_path / "list/train.txt").write_text("c.png\na.png\n", encoding="utf-16")
    assert [pair.name for pair in find_pairs(tmp_path, "train")] == ["a", "c"]


def test_a_name_listed_twice_is_refused(tmp_path):
    write_split(tmp_path, ["a"])
    (tmp_path / "list").mkdir()
    (tmp_path / "list/test.txt").write_text("a\na.png\n")
    with pytest.raises(DataError, match="names a twice"):
        find_pairs(tmp_path, "test")


def test_two_files_of_one_name_are_refused(tmp_path):
    write_split(tmp_path, ["a"])
    Image.fromarray(random_image(1)).save(tmp_path / "A/a.bmp")
    with pytest.raises(DataError, match="have the same name"):
        find_pairs(tmp_path, "all")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
def test_all_image_formats_are_read(tmp_path, suffix):
    image = random_image(3)
    Image.fromarray(image).save(tmp_path / f"image.{suffix}")
    found = read_image(tmp_path / f"image.{suffix}")
    assert np.abs(found.astype(int) - image).mean() < 5


@pytest.mark.parametrize("scale", [1, 255])
def test_labels_in_0_1_and_0_255_mean_the_same(tmp_path, scale):
    write_pair(tmp_path, "blank", random_image(1), random_image(2), LABEL * 0)
    write_pair(tmp_path, "change", random_image(1), random_image(2), LABEL // 255 * scale)
    pairs = find_pairs(tmp_path, "all")
    assert find_coding(pairs) == Coding(scale)
    change = PairDataset(pairs, Coding(scale))[1].change
    np.testing.assert_array_equal(change[0].numpy(), LABEL // 255)


def test_palette_labels_mean_their_indices(tmp_path):
    write_pair(tmp_path, "a", random_image(1), random_image(2), LABEL)
    label = Image.fromarray(LABEL // 255).convert("P")
    label.putdata((LABEL // 255).ravel().tolist())
    label.putpalette([0, 0, 0, 3, 200, 7])
    label.save(tmp_path / "label/a.png")
    pairs = find_pairs(tmp_path, "all")
    assert find_coding(pairs) == Coding(1)
    np.testing.assert_array_equal(PairDataset(pairs, Coding(1))[0].change[0], LABEL // 255)


@pytest.mark.parametrize("value", [2, 6, 128, 249])
def test_labels_of_other_values_are_refused_not_read_as_stillness(tmp_path, value):
    write_pair(tmp_path, "a", random_image(1), random_image(2), LABEL // 255 * np.uint8(value))
    pairs = find_pairs(tmp_path, "all")
    with pytest.raises(DataError, match=rf"values? (up to )?{value}, expected 0 and 255"):
        PairDataset(pairs, find_coding(pairs))[0]


def test_values_near_the_ends_and_the_greys_of_a_jpeg_count_as_the_nearer(tmp_path):
    near = np.where(LABEL > 0, 254, 3).astype(np.uint8)
    near[0, :2] = 0, 255
    write_pair(tmp_path, "a", random_image(1), random_image(2), near)
    write_pair(tmp_path, "b", random_image(1), random_image(2), LABEL)
    (tmp_path / "label/b.png").unlink()
    Image.fromarray(LABEL).save(tmp_path / "label/b.jpg", quality=30)
    pairs = find_pairs(tmp_path, "all")
    assert find_coding(pairs) == Coding(255)
    expected = LABEL // 255
    expected[0, 1] = 1
    np.testing.assert_array_equal(PairDataset(pairs, Coding(255))[0].change[0], expected)
    assert (PairDataset(pairs, Coding(255))[1].change[0].numpy() == LABEL // 255).mean() > 0.98


def save_palette(path, colours):
    image = Image.fromarray(LABEL // 255).convert("P")
    image.putdata((LABEL // 255).ravel().tolist())
    image.putpalette(colours)
    image.save(path)


def save_see_through(path):
    Image.merge("LA", [Image.fromarray(band) for band in (LABEL, 255 - LABEL // 3)]).save(path)


@pytest.mark.parametrize(
    ("save", "expected"),
    [
        (lambda path: save_palette(path, [255, 255, 255, 0, 0, 0]), "0 is brighter than its 1"),
        (save_see_through, "transparent pixels"),
        (lambda path: Image.fromarray(np.stack([LABEL, LABEL * 0, LABEL * 0], -1)).save(path),
         "coloured label"),
        (lambda path: Image.fromarray(LABEL.astype(np.uint16)).save(path), "8 bits"),
        (lambda path: Image.fromarray(LABEL // 255).save(path.with_suffix(".jpg"), quality=95),
         "values up to 1, expected 0 and 255"),
    ],
    ids=["inverted palette", "alpha", "red", "16 bits", "0/1 JPEG"],
)  # fmt: skip
def test_labels_that_could_be_meant_otherwise_are_refused(tmp_path, save, expected):
    write_pair(tmp_path, "a", random_image(1), random_image(2), LABEL)
    (tmp_path / "label/a.png").unlink()
    save(tmp_path / "label/a.png")
    (pair,) = find_pairs(tmp_path, "all")
    with pytest.raises((DataError, ImageError), match=expected):
        PairDataset([pair], Coding(255))[0]


def test_missing_partners_and_splits_are_named(tmp_path):
    with pytest.raises(DataError, match="no such data folder"):
        find_pairs(tmp_path / "nowhere", "train")
    with pytest.raises(DataError, match=r"no split 'train'.*train/A"):
        find_pairs(tmp_path, "train")
    write_split(tmp_path / "train", ["one", "two"])
    (tmp_path / "train/B/two.png").unlink()
    with pytest.raises(DataError, match=r"B: two missing"):
        find_pairs(tmp_path, "train")
    (tmp_path / "train/A/two.png").unlink()
    (tmp_path / "train/label/one.png").unlink()
    with pytest.raises(DataError, match=r"label: one missing"):
        find_pairs(tmp_path, "train")
    (tmp_path / "empty/A").mkdir(parents=True)
    with pytest.raises(DataError, match="no pairs here"):
        find_pairs(tmp_path / "empty", "all")


def test_bad_images_are_named(tmp_path):
    good = tmp_path / "good.png"
    Image.fromarray(random_image(1)).save(good)
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:400])
    (tmp_path / "text.png").write_text("not an image")
    Image.fromarray(np.zeros((64, 64), np.uint16)).save(tmp_path / "deep.png")
    # A 16-bit colour PNG, which Pillow reads but cannot write: one black pixel.
    rows = zlib.compress(b"\0" + bytes(6))
    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    png = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    (tmp_path / "colour.png").write_bytes(b"\x89PNG\r\n\x1a\n" + png)
    for name, reason in (
        ("cut", "cannot be read"),
        ("text", "cannot be read"),
        ("deep", "8 bits"),
        ("colour", "8 bits"),
    ):
        with pytest.raises(ImageError, match=f"{name}.png.*{reason}"):
            read_image(tmp_path / f"{name}.png")
    with pytest.raises(ImageError, match="no such file"):
        read_image(tmp_path / "absent.png")


def test_unequal_sizes_are_refused(tmp_path):
    write_pair(tmp_path, "pair", random_image(1), random_image(2, size=72), LABEL)
    with pytest.raises(ImageError, match=r"B/pair\.png: 72 x 72, but .* is 64 x 64"):
        PairDataset(find_pairs(tmp_path, "all"), Coding())[0]


@pytest.mark.parametrize(
    ("before", "after", "label"),
    [
        ("Image1", "Image2", "label"),
        ("time1", "time2", "label"),
        ("t1", "t2", "mask"),
        ("T1", "T2", "labels_change"),
    ],
    ids=["S2Looking", "SYSU-CD and CLCD", "DSIFN", "GZ-CD"],
)
def test_other_data_sets_are_read_as_distributed(tmp_path, before, after, label):
    write_split(tmp_path / "train", ["b", "a"])
    for old, new in (("A", before), ("B", after), ("label", label)):
        (tmp_path / "train" / old).rename(tmp_path / "train" / new)
    pairs = find_pairs(tmp_path, "train")
    assert [pair.name for pair in pairs] == ["a", "b"]
    assert {pairs[0].before.parent.name, pairs[0].change.parent.name} == {before, label}
    (tmp_path / "train" / after / "a.png").unlink()
    with pytest.raises(DataError, match=f"{after}: a missing here"):
        find_pairs(tmp_path, "train")


def test_oscd_is_read_as_its_archives_are_unpacked(tmp_path):
    images = tmp_path / "Onera Satellite Change Detection dataset - Images"
    for split, cities in (("train", ["paris", "aguasclaras"]), ("test", ["lasvegas"])):
        labels = tmp_path / f"Onera Satellite Change Detection dataset - {split.title()} Labels"
        for city in cities:
            write_split(tmp_path / "made", ["one"])
            for source, target in (
                ("A", images / city / "pair/img1.png"), ("B", images / city / "pair/img2.png"),
                ("label", labels / city / "cm/cm.png"),
            ):  # fmt: skip
                target.parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / f"made/{source}/one.png").rename(target)
        (images / f"{split}.txt").write_text(",".join(cities) + "\n")
    assert [pair.name for pair in find_pairs(tmp_path, "train")] == ["aguasclaras", "paris"]
    assert [pair.name for pair in find_pairs(tmp_path, "test")] == ["lasvegas"]
    assert examine(tmp_path).pairs == {"train": 2, "test": 1}
    next(tmp_path.rglob("lasvegas/cm/cm.png")).unlink()
    with pytest.raises(DataError, match="lasvegas: its label is missing"):
        find_pairs(tmp_path, "test")


def test_folders_of_any_name_are_read_where_they_are_named(tmp_path, ctma):
    for split in ("train", "val"):
        write_split(tmp_path / split, ["a", "b"])
        for old, new in (("A", "early"), ("B", "late"), ("label", "truth")):
            (tmp_path / split / old).rename(tmp_path / split / new)
    folders = "before=early,after=late,change=truth"
    pairs = find_pairs(tmp_path, "val", folders=folders)
    assert [pair.change.parent.name for pair in pairs] == ["truth", "truth"]
    with pytest.raises(DataError, match="or other names as `folders`"):
        find_pairs(tmp_path, "val")
    found = ctma("check", tmp_path, "--folders", folders, "--json", code=1)
    assert json.loads(found.stdout)["pairs"] == {"train": 2, "val": 2}
    refused(ctma, "--folders early,late: expected", "check", tmp_path, "--folders", "early,late")


@pytest.mark.parametrize("given", ["", "..", "train", "train/A/..", "val"])
def test_one_folder_too_high_or_too_low_is_found(tmp_path, given):
    for split in ("train", "val"):
        write_split(tmp_path / "LEVIR" / split, [split])
    (tmp_path / "other").mkdir()
    for split in ("train", "val"):
        assert find_pairs(tmp_path / "LEVIR" / given, split)[0].name == split


def test_a_part_of_svcd_stands_for_it(tmp_path):
    write_split(tmp_path / "SVCD/Real/subset/val", ["a"])
    for given in ("SVCD", "SVCD/Real", "SVCD/Real/subset", "SVCD/Real/subset/val", ""):
        assert len(find_pairs(tmp_path / given, "val")) == 1
    write_split(tmp_path / "SVCD/Model/with_shift/val", ["b"])
    assert find_pairs(tmp_path / "SVCD", "val")[0].name == "a"
    assert find_pairs(tmp_path / "SVCD/Model/with_shift", "val")[0].name == "b"


def test_all_splits_together_are_named_by_split(tmp_path):
    for split in ("train", "test"):
        write_split(tmp_path / split, ["a"])
    assert [pair.name for pair in find_pairs(tmp_path, "all")] == ["train/a", "test/a"]


def test_links_to_folders_are_followed(tmp_path):
    write_split(tmp_path / "elsewhere/scene", ["a"])
    for kind in ("A", "B", "label"):
        (tmp_path / "data/train" / kind).mkdir(parents=True)
        (tmp_path / "data/train" / kind / "s").symlink_to(tmp_path / "elsewhere/scene" / kind)
    assert [pair.name for pair in find_pairs(tmp_path / "data", "train")] == ["s/a"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_upright_as_its_exif_says(tmp_path, orientation):
    upright = np.zeros((64, 96, 3), np.uint8)
    upright[:20, :30] = 255
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # transpositions that EXIF takes back
    stored = Image.fromarray(upright)
    if orientation > 1:
        stored = stored.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[274] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png"), upright)


@pytest.mark.parametrize("kind", ["tif", "jp2"])
def test_colours_of_16_bits_are_refused_not_cut_to_8(tmp_path, kind):
    rasterio = pytest.importorskip("rasterio")
    path = tmp_path / f"deep.{kind}"
    driver = {"tif": "GTiff", "jp2": "JP2OpenJPEG"}[kind]
    pixels = np.full((3, 64, 64), 900, np.uint16)
    place = {"crs": "EPSG:32643", "transform": rasterio.Affine(1, 0, 0, 0, -1, 0)}
    shape = {"count": 3, "height": 64, "width": 64, "dtype": "uint16"}
    with rasterio.open(path, "w", driver=driver, photometric="RGB", **shape, **place) as raster:
        raster.write(pixels)
    with pytest.raises(ImageError, match="expected pixels of 8 bits"):
        read_image(path)


def test_a_palette_that_is_inverted_is_refused_whatever_its_values(tmp_path):
    write_split(tmp_path, ["a"], 255)
    label = Image.fromarray(LABEL).convert("P")
    label.putpalette([value for index in range(256) for value in [255 - index] * 3])
    label.save(tmp_path / "label/a.png")
    with pytest.raises(ImageError, match="palette label whose 0 is brighter than its 255"):
        PairDataset(find_pairs(tmp_path, "all"), Coding())[0]


def test_a_bare_codestream_of_16_bits_is_refused(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    path = tmp_path / "a.j2k"
    shape = {"count": 3, "height": 64, "width": 64, "dtype": "uint16"}
    with rasterio.open(path, "w", driver="JP2OpenJPEG", codec="J2K", **shape) as raster:
        raster.write(np.full((3, 64, 64), 3000, np.uint16))
    with pytest.raises(ImageError, match="expected pixels of 8 bits"):
        read_image(path)


def test_hidden_folders_are_no_data(tmp_path):
    write_split(tmp_path / "train", ["a"])
    (tmp_path / "train/A/.ipynb_checkpoints").mkdir()
    shutil.copy(tmp_path / "train/A/a.png", tmp_path / "train/A/.ipynb_checkpoints/a-copy.png")
    assert [pair.name for pair in find_pairs(tmp_path, "train")] == ["a"]


def write_label_with_ignored_rows(tmp_path, ignored, names):
    label = LABEL // 255
    label[:4] = ignored
    write_split(tmp_path / "val", names)
    Image.fromarray(label).save(tmp_path / f"val/label/{names[-1]}.png")
    return label


def test_255_beside_0_and_1_is_no_label(tmp_path):
    stored = write_label_with_ignored_rows(tmp_path, 255, ["a", "b", "c"])
    Image.fromarray(LABEL // 255).save(tmp_path / "val/label/a.png")
    Image.fromarray(stored).save(tmp_path / "val/label/b.png")
    pairs = find_pairs(tmp_path, "val")
    coding = find_coding(pairs)
    assert str(coding) == "0/1, 255 for no label"
    expected = np.where(stored == 255, IGNORED, stored)
    np.testing.assert_array_equal(read_sample(pairs[2], coding)[2], expected)
    diagnosis = examine(tmp_path)
    assert (diagnosis.label_scale, diagnosis.label_ignored) == (1, 255)
    assert diagnosis.ignored_share["val"] == pytest.approx(2 / 3 * 4 / len(LABEL))
    assert not [finding for finding in diagnosis.findings if finding.kind == "label values"]


@pytest.mark.parametrize("stored", [LABEL, LABEL // 255])
def test_one_label_of_0_1_and_255_among_labels_of_0_and_255_is_refused(tmp_path, stored):
    """A stray 1 in a data set of 0 and 255 must not turn all change into no label."""
    write_split(tmp_path / "val", ["a", "b", "c"], scale=np.uint8(255))
    stray = LABEL.copy()
    stray[0, 0] = 1
    Image.fromarray(stray).save(tmp_path / "val/label/b.png")
    Image.fromarray(stored).save(tmp_path / "val/label/c.png")
    pairs = find_pairs(tmp_path, "val")
    with pytest.raises(DataError, match=r"b\.png: label of values 0, 1 and 255"):
        read_sample(pairs[1], find_coding(pairs))


def test_a_late_label_of_0_and_255_among_labels_of_0_1_and_255_is_refused(tmp_path):
    write_label_with_ignored_rows(tmp_path, 255, ["a"])
    coding = find_coding(find_pairs(tmp_path, "val"))
    write_split(tmp_path / "val", ["b"], scale=np.uint8(255))
    pairs = find_pairs(tmp_path, "val")
    with pytest.raises(DataError, match="label of 0 and 255 among labels of 0, 1 and 255"):
        read_sample(pairs[1], coding)


def test_a_jpeg_label_has_its_own_coding(tmp_path):
    write_label_with_ignored_rows(tmp_path, 255, ["a", "b"])
    (tmp_path / "val/label/a.png").unlink()
    Image.fromarray(LABEL).save(tmp_path / "val/label/a.jpg", quality=30)
    pairs = find_pairs(tmp_path, "val")
    change = read_sample(pairs[0], find_coding(pairs))[2]
    assert (change == LABEL // 255).mean() > 0.98
    assert {*np.unique(change)} == {0, 1}
    stored = np.asarray(Image.open(tmp_path / "val/label/a.jpg"))
    assert examine(tmp_path).between == np.count_nonzero((stored != 0) & (stored != 255))


def test_another_value_beside_0_and_1_is_refused(tmp_path):
    write_label_with_ignored_rows(tmp_path, 254, ["a"])
    pairs = find_pairs(tmp_path, "val")
    with pytest.raises(DataError, match=r"values 0, 1 and 254; .* change or no label"):
        read_sample(pairs[0], find_coding(pairs))
    assert any("change or no label" in finding.what for finding in examine(tmp_path).findings)


def test_a_label_of_0_255_among_labels_of_0_1_is_refused(tmp_path):
    write_split(tmp_path / "val", ["a", "b"])
    Image.fromarray(LABEL // 255).save(tmp_path / "val/label/a.png")
    Image.fromarray(LABEL).save(tmp_path / "val/label/b.png")
    pairs = find_pairs(tmp_path, "val")
    with pytest.raises(DataError, match="label of value 255, expected 0 and 1"):
        read_sample(pairs[1], find_coding(pairs))


def test_a_png_with_turned_bits_is_refused(tmp_path):
    pixels = smooth(1, 200, 260).transpose(1, 2, 0)
    Image.fromarray(pixels).save(tmp_path / "sound.png")
    sound = (tmp_path / "sound.png").read_bytes()
    for place in range(60, len(sound) - 20, 41):
        turned = bytearray(sound)
        turned[place] ^= 1
        (tmp_path / "turned.png").write_bytes(turned)
        with pytest.raises(ImageError, match="turned"):
            read_image(tmp_path / "turned.png")

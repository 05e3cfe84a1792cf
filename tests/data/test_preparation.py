"""Published data sets cut as published, and synthetic pairs."""

import numpy as np
import pytest
from PIL import Image

from ctma.data.images import read_image
from ctma.data.pairs import find_coding, read_sample
from ctma.data.preparation import prepare_levir_cd, prepare_whu_cd
from ctma.data.readers import find_pairs
from ctma.data.synthetic import synthetic_pair
from ctma.errors import DataError, OutputError
from ctma.types import IGNORED
from support.images import random_image, write_pair, write_split


@pytest.fixture(scope="module")
def raw_levir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("levir")
    for split in ("train", "val", "test"):
        label = np.zeros((512, 512), np.uint8)
        label[:100, 300:] = 255
        write_pair(folder / split, f"{split}_1", *(random_image(s, 512) for s in (1, 2)), label)
    return folder


def test_levir_cd_is_cut_as_published(raw_levir, tmp_path):
    prepared = prepare_levir_cd(raw_levir, tmp_path / "cut")
    assert prepared.pairs == {"train": 9, "val": 4, "test": 4}
    scene = read_image(raw_levir / "train/A/train_1.png")
    cut = tmp_path / "cut/train/A/train_1"
    np.testing.assert_array_equal(read_image(cut / "train_1_1.png"), scene[:256, 128:384])
    np.testing.assert_array_equal(read_image(cut / "train_1_3.png"), scene[128:384, :256])
    assert len(find_pairs(tmp_path / "cut", "test")) == 4
    with pytest.raises(OutputError, match="exists already"):
        prepare_levir_cd(raw_levir, tmp_path / "cut")


def test_pixels_without_a_label_stay_without_a_label(tmp_path):
    for split in ("train", "val", "test"):
        label = np.zeros((256, 512), np.uint8)
        label[:100, 100:200] = 1
        label[200:, 200:] = 255 if split == "val" else 0
        write_pair(tmp_path / "raw" / split, "a", *(np.ones((256, 512, 3), np.uint8),) * 2, label)
    prepare_levir_cd(tmp_path / "raw", tmp_path / "cut")
    pairs = find_pairs(tmp_path / "cut", "val")
    assert [pair.change.suffix for pair in pairs] == [".tif", ".tif"]
    changes = [read_sample(pair, find_coding(pairs))[2] for pair in pairs]
    expected = np.where(label == 1, 1, 0)
    expected[200:, 200:] = IGNORED
    np.testing.assert_array_equal(np.hstack(changes), expected)


def test_scenes_that_cannot_be_cut_are_refused(tmp_path):
    for split in ("train", "val", "test"):
        write_split(tmp_path / "small" / split, ["a"])
    with pytest.raises(DataError, match="64 x 64, a scene is cut at 256"):
        prepare_levir_cd(tmp_path / "small", tmp_path / "cut")
    assert not (tmp_path / "cut").exists()


def write_whu(folder, height, width):
    rasterio = pytest.importorskip("rasterio")
    for name, bands in (("before/before", 3), ("after/after", 3), ("change label/change_label", 1)):
        path = folder / f"{name}.tif"
        path.parent.mkdir(parents=True)
        rng = np.random.default_rng(bands + len(name))
        pixels = rng.integers(0, 2 if bands == 1 else 256, (bands, height, width), np.uint8)
        profile = {"driver": "GTiff", "height": height, "width": width, "count": bands}
        profile["transform"] = rasterio.Affine(0.2, 0, 0, 0, -0.2, 0)
        with rasterio.open(path, "w", dtype="uint8", **profile) as raster:
            raster.write(pixels)
    return folder


@pytest.mark.slow
def test_whu_cd_spatial_split_is_the_published_one(tmp_path):
    # 280 columns are left of 70 %, one crop wide. Rows 0, 128 … 5120; those from
    # sqrt(0.9) of 5376 = 5100 on are val.
    raw = write_whu(tmp_path / "raw", 5376, 400)
    nested = tmp_path / "Building change detection dataset_add/1. The two-period image data"
    nested.parent.mkdir()
    raw.rename(nested)
    (nested / "change label").rename(nested / "change_label")
    prepared = prepare_whu_cd(nested.parent, tmp_path / "cut", "spatial")
    assert prepared.pairs == {"train": 40, "val": 1, "test": 1}
    (test,) = find_pairs(tmp_path / "cut", "test")
    assert read_image(test.before).shape == (5376, 120, 3)
    assert np.unique(np.asarray(Image.open(test.change))).tolist() == [0, 255]


def test_whu_cd_random_split_covers_every_cell_once(tmp_path):
    raw = write_whu(tmp_path / "raw", 700, 1300)
    prepared = prepare_whu_cd(raw, tmp_path / "cut", "random", seed=1)
    assert prepared.pairs == {"train": 14, "val": 2, "test": 2}
    names = [pair.name for split in prepared.pairs for pair in find_pairs(tmp_path / "cut", split)]
    assert len(set(names)) == 3 * 6
    last = next((tmp_path / "cut").glob("*/A/whu_00512_01280.png"))
    assert (read_image(last)[188:] == 0).all()


def test_synthetic_pairs_follow_from_their_seed():
    before, after, change = synthetic_pair(96, 7)
    assert before.shape == after.shape == (96, 96, 3)
    assert set(np.unique(change)) == {0, 1}
    for found, expected in zip(synthetic_pair(96, 7), (before, after, change), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_light_and_season_change_everywhere_without_being_change():
    differences = []
    for seed in range(8):
        before, after, change = synthetic_pair(128, seed)
        still = change == 0
        differences.append(np.abs(before.astype(int) - after)[still].mean())
        assert change.mean() < 0.3
    assert np.mean(differences) > 10

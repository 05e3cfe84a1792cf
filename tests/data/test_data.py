"""Readers, augmentation, preparation and the doctor."""

import json
import shutil
import struct
import zlib
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ctma.data.augmentation import (
    AUGMENTATIONS,
    PAPER_CHOICES,
    augmentation,
    paper,
    random_crop,
    shift,
)
from ctma.data.dataset import Draw, PairDataset, ShareSampler, TrainingSampler
from ctma.data.doctor import examine
from ctma.data.images import read_image
from ctma.data.pairs import find_label_scale
from ctma.data.preparation import prepare_levir_cd, prepare_whu_cd
from ctma.data.readers import find_pairs
from ctma.data.synthetic import synthetic_pair
from ctma.errors import DataError, ImageError, OutputError
from support import SHARED_DATA
from support.images import random_image, write_pair

LABEL = np.zeros((64, 64), np.uint8)
LABEL[8:24, 8:40] = 255


def write_split(folder, names, scale=1, seed=0):
    for number, name in enumerate(names):
        images = random_image(seed + 2 * number), random_image(seed + 2 * number + 1)
        write_pair(folder, name, *images, LABEL // 255 * scale)


# Readers


@pytest.mark.parametrize("subset", ["Real/subset", "Model/with_shift", "Model/without_shift"])
def test_svcd_is_read_in_all_three_subsets(tmp_path, subset):
    for kind, image in (("A", random_image(1)), ("B", random_image(2)), ("OUT", LABEL)):
        folder = tmp_path / subset / "train" / kind
        folder.mkdir(parents=True)
        suffix = "bmp" if kind == "OUT" and "with_shift" in subset else "jpg"
        Image.fromarray(image).save(folder / f"00001.{suffix}")
    name = {"subset": "real"}.get(subset.split("/")[1], subset.split("/")[1])
    (pair,) = find_pairs(tmp_path, "train", subset=name)
    change = PairDataset([pair], 255).read(0)[2]
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


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
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
    assert find_label_scale(pairs) == scale
    change = PairDataset(pairs, scale)[1].change
    np.testing.assert_array_equal(change[0].numpy(), LABEL // 255)


def test_palette_labels_mean_their_indices(tmp_path):
    write_pair(tmp_path, "a", random_image(1), random_image(2), LABEL)
    label = Image.fromarray(LABEL // 255).convert("P")
    label.putdata((LABEL // 255).ravel().tolist())
    label.putpalette([0, 0, 0, 3, 200, 7])
    label.save(tmp_path / "label/a.png")
    pairs = find_pairs(tmp_path, "all")
    assert find_label_scale(pairs) == 1
    np.testing.assert_array_equal(PairDataset(pairs, 1)[0].change[0], LABEL // 255)


@pytest.mark.parametrize("value", [2, 128])
def test_labels_of_other_values_are_refused_not_read_as_stillness(tmp_path, value):
    write_pair(tmp_path, "a", random_image(1), random_image(2), LABEL // 255 * np.uint8(value))
    pairs = find_pairs(tmp_path, "all")
    with pytest.raises(DataError, match=f"value {value}, expected 0 and 255"):
        PairDataset(pairs, find_label_scale(pairs))[0]


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
        PairDataset(find_pairs(tmp_path, "all"), 255)[0]


# Augmentation


def tracer(size=64):
    """A sample whose two images and label all show where a pixel came from."""
    rows, columns = np.mgrid[:size, :size].astype(np.uint8)
    image = np.stack([rows, columns, rows ^ columns], axis=-1)
    return image, image.copy(), rows


def test_paper_draws_one_of_seven_with_equal_odds():
    assert len(PAPER_CHOICES) == 7
    sample = tracer()
    keys = {
        np.ascontiguousarray(f(sample[0])).tobytes(): name
        for name, f in {
            "horizontal flip": lambda x: x[:, ::-1],
            "vertical flip": lambda x: x[::-1],
            "rotation by 90": lambda x: np.rot90(x, 1),
            "rotation by 180": lambda x: np.rot90(x, 2),
            "rotation by 270": lambda x: np.rot90(x, 3),
            "identity": lambda x: x,
        }.items()
    }
    rng = np.random.default_rng(0)
    counts = Counter(
        keys.get(np.ascontiguousarray(paper(sample, rng)[0]).tobytes(), "shift")
        for _ in range(7000)
    )
    # A shift by (0, 0), one in 81, looks like an identity.
    assert set(counts) == set(PAPER_CHOICES)
    assert all(abs(count - 1000) < 150 for count in counts.values()), counts


@given(seed=st.integers(0, 2**32), name=st.sampled_from(["paper", "none"]))
@settings(max_examples=60, deadline=None)
def test_augmentation_treats_both_images_and_the_label_alike(seed, name):
    before, after, change = augmentation(name)(tracer(), np.random.default_rng(seed))
    np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(before[..., 0], change)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_turns_and_zoom_treat_both_images_and_the_label_alike(seed):
    others = AUGMENTATIONS["strong"].keys() - {"turns", "zoom"}
    image, again, _ = tracer()
    halves = image[..., 0] // 32
    before, after, change = augmentation("strong", others)(
        (image, again, halves), np.random.default_rng(seed)
    )
    np.testing.assert_array_equal(before, after)
    border = np.abs(before[..., 0] - 31.5) < 1.5  # where nearest and smooth may differ
    np.testing.assert_array_equal(change[~border], before[~border][:, 0] // 32)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_strong_augmentation_keeps_shapes_and_a_binary_label(seed):
    image = random_image(1)
    sample = image, image, LABEL // 255
    before, after, change = augmentation("strong")(sample, np.random.default_rng(seed))
    assert before.shape == after.shape == image.shape
    assert before.dtype == after.dtype == np.uint8
    assert set(np.unique(change)) <= {0, 1}


AS_IT_WAS = ("before", "after", "change")


def outcomes(part):
    """What a part of the strong augmentation, alone, makes of two noisy images and a label."""
    sample = dict(zip(AS_IT_WAS, (random_image(1), random_image(2), LABEL // 255), strict=True))
    alone = augmentation("strong", AUGMENTATIONS["strong"].keys() - {part})

    def name(image):
        same = (name for name, known in sample.items() if np.array_equal(image, known))
        return next(same, "other")

    for seed in range(200):
        yield tuple(map(name, alone(tuple(sample.values()), np.random.default_rng(seed))))


@pytest.mark.parametrize(
    ("part", "kinds"),
    [
        ("swap", {AS_IT_WAS, ("after", "before", "change")}),
        ("still", {AS_IT_WAS, ("before", "before", "other")}),
        ("misregistration", {AS_IT_WAS, ("before", "other", "change")}),
    ],
)
def test_a_part_of_the_strong_augmentation_stands_alone(part, kinds):
    assert set(outcomes(part)) == kinds


@pytest.mark.parametrize("part", ["colour", "blur", "noise", "jpeg"])
def test_the_strong_augmentation_distorts_each_date_alone(part):
    assert set(outcomes(part)) == {
        (before, after, "change") for before in ("before", "other") for after in ("after", "other")
    }


def test_an_augmentation_without_its_parts_leaves_a_sample_as_it_is():
    sample = random_image(1), random_image(2), LABEL // 255
    bare = augmentation("strong", AUGMENTATIONS["strong"])
    for left, right in zip(bare(sample, np.random.default_rng(0)), sample, strict=True):
        np.testing.assert_array_equal(left, right)


@given(down=st.integers(-4, 4), right=st.integers(-4, 4))
def test_shift_moves_whole_pixels_and_fills_with_zeros(down, right):
    image = random_image(5) // 2 + 1
    moved = shift(image, down, right)
    inside = moved[4:-4, 4:-4]
    np.testing.assert_array_equal(inside, image[4 - down : 60 - down, 4 - right : 60 - right])
    assert (moved == 0).all(axis=-1).sum() == 64 * 64 - (64 - abs(down)) * (64 - abs(right))


def test_a_drawn_sample_is_a_function_of_its_seed(tiny_data):
    dataset = PairDataset(find_pairs(tiny_data, "train"), 255, 64, paper)
    first, again = dataset[Draw(2, 99)], dataset[Draw(2, 99)]
    np.testing.assert_array_equal(first.before, again.before)
    assert any(not np.array_equal(first.before, dataset[Draw(2, s)].before) for s in range(5))


def test_changed_pixels_of_another_pair_are_laid_over_both_dates(tmp_path):
    write_split(tmp_path / "train", ["a", "b"], scale=255)
    donor = LABEL[::-1]
    write_pair(tmp_path / "train", "b", random_image(7), random_image(8), donor)
    pairs = find_pairs(tmp_path, "train")
    plain, mixed = (PairDataset(pairs, 255, 64, paste=odds) for odds in (0, 1))
    own = plain[Draw(0, 1)]
    seen = set()
    for seed in range(20):
        found = mixed[Draw(0, seed)]
        other = plain[Draw(1, 0)] if (found.change != own.change).any() else own
        laid = other.change[0] == 1
        for date in ("before", "after"):
            image = getattr(found, date)
            assert torch.equal(image[:, laid], getattr(other, date)[:, laid])
            assert torch.equal(image[:, ~laid], getattr(own, date)[:, ~laid])
        assert torch.equal(found.change, own.change | other.change)
        seen.add(other is own)
    assert seen == {True, False}


# Samplers


@given(size=st.integers(1, 40), repeats=st.integers(1, 4), processes=st.integers(1, 5))
def test_training_draws_every_pair_equally_often(size, repeats, processes):
    samplers = [TrainingSampler(size, repeats, 3, rank, processes) for rank in range(processes)]
    draws = [[draw.index for draw in sampler] for sampler in samplers]
    assert {len(share) for share in draws} == {len(samplers[0])}
    counts = Counter(place for share in draws for place in share)
    assert sum(counts.values()) - size * repeats < processes
    assert all(counts[place] >= repeats for place in range(size))


def test_every_epoch_has_its_own_order():
    sampler = TrainingSampler(20, 1, seed=1)
    first = list(sampler)
    assert first == list(sampler)
    sampler.set_epoch(1)
    assert first != list(sampler)


@given(size=st.integers(0, 40), processes=st.integers(1, 6))
def test_scoring_sees_every_pair_once(size, processes):
    shares = [list(ShareSampler(size, rank, processes)) for rank in range(processes)]
    assert sorted(place for share in shares for place in share) == list(range(size))


# Preparation


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


def test_whu_cd_spatial_split_is_the_published_one(tmp_path):
    # 280 columns are left of 70 %, one crop wide. Rows 0, 128 … 5120; those from
    # sqrt(0.9) of 5376 = 5100 on are val.
    raw = write_whu(tmp_path / "raw", 5376, 400)
    prepared = prepare_whu_cd(raw, tmp_path / "cut", "spatial")
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


# Synthetic pairs


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


# The doctor


def kinds(diagnosis):
    return Counter(finding.kind for finding in diagnosis.findings)


def test_a_healthy_folder_has_no_findings(tiny_data):
    diagnosis = examine(tiny_data)
    assert diagnosis.findings == []
    assert diagnosis.pairs == {"train": 8, "val": 5, "test": 4}
    assert diagnosis.label_scale == 255


def test_the_doctor_finds_what_hurts(tmp_path):
    write_split(
        tmp_path / "train", ["good", "partner", "size", "values", "blank", "same", "cut"], 255
    )
    folder = tmp_path / "train"
    (folder / "B/partner.png").unlink()
    Image.fromarray(random_image(50, size=72)).save(folder / "B/size.png")
    Image.fromarray(LABEL // 255 * 7).save(folder / "label/values.png")
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(folder / "A/blank.png")
    shutil.copy(folder / "A/same.png", folder / "B/same.png")
    (folder / "A/cut.png").write_bytes((folder / "A/cut.png").read_bytes()[:300])
    found = {finding.where: finding.kind for finding in examine(tmp_path).findings}
    assert found == {
        "train/partner": "missing partner",
        "train/size": "unequal sizes",
        "train/values": "label values",
        "train/blank": "blank",
        "train/same": "identical",
        "train/cut": "unreadable",
    }


def test_the_doctor_goes_on_after_an_unreadable_label_and_finds_empty_splits(tmp_path):
    write_split(tmp_path / "train", ["a", "b"], 255)
    (tmp_path / "train/label/a.png").write_bytes(b"")
    (tmp_path / "val/A").mkdir(parents=True)
    found = {(finding.where, finding.kind) for finding in examine(tmp_path).findings}
    assert found == {("train/a", "unreadable"), ("val", "empty split")}


@pytest.mark.parametrize(
    "turn", [None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_90], ids=str
)
def test_a_scene_in_two_splits_is_found_reencoded_or_turned(tmp_path, turn):
    write_split(tmp_path / "train", ["a", "b", "c"], 255)
    write_split(tmp_path / "test", ["d", "e"], 255, seed=100)
    for kind in ("A", "B", "label"):
        image = Image.open(tmp_path / f"train/{kind}/b.png")
        image = image if turn is None else image.transpose(turn)
        suffix = "png" if kind == "label" else "jpg"
        image.save(tmp_path / f"test/{kind}/leak.{suffix}")
    (finding,) = examine(tmp_path).findings
    assert (finding.kind, finding.where) == ("shared scene", "train/b and test/leak")


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the real pairs are not here")
def test_three_planted_leaks_in_real_pairs_are_found_and_nothing_else(tmp_path, ctma):
    data = shutil.copytree(SHARED_DATA / "levir_cd_05m", tmp_path / "data")
    names = sorted(path.stem for path in (data / "train/A").iterdir())
    leaks = {names[3]: None, names[400]: "FLIP_TOP_BOTTOM", names[800]: "ROTATE_270"}
    for name, turn in leaks.items():
        for kind in ("A", "B", "label"):
            source = next((data / "train" / kind).glob(f"{name}.*"))
            image = Image.open(source)
            image = image.transpose(Image.Transpose[turn]) if turn else image
            options = {} if kind == "label" else {"quality": 60}
            image.save(data / "val" / kind / f"leak_{name}{source.suffix}", **options)
    diagnosis = json.loads(ctma("check", data, "--json", code=1).stdout)
    found = {f["where"] for f in diagnosis["findings"] if f["kind"] == "shared scene"}
    assert found == {f"train/{name} and val/leak_{name}" for name in leaks}


# What a crop is cut from


def test_a_zoomed_crop_shows_more_or_less_ground():
    rows = np.mgrid[:200, :200][0].astype(np.uint8)
    sample = np.stack([rows] * 3, axis=-1), np.stack([rows] * 3, axis=-1), (rows > 99) * np.uint8(1)
    for zoom in (0.5, 1.0, 2.0):
        for seed in range(5):
            before, after, change = random_crop(
                sample, 64, np.random.default_rng(seed), (zoom, zoom)
            )
            assert before.shape == (64, 64, 3)
            assert change.shape == (64, 64)
            np.testing.assert_array_equal(before, after)
            slope = (int(before[-8, 0, 0]) - int(before[8, 0, 0])) / 47
            assert slope == pytest.approx(zoom, abs=0.05)
            np.testing.assert_allclose(change[:, 0], before[:, 0, 0] > 99, atol=1)


def test_zoomed_crops_of_small_images_have_one_size():
    image, change = np.zeros((100, 100, 3), np.uint8), np.zeros((100, 100), np.uint8)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        before, _, _ = random_crop((image, image, change), 128, rng, (0.95, 1.05))
        assert before.shape == (128, 128, 3)


def test_a_zoomed_crop_larger_than_its_image_stays_a_square():
    rows, columns = np.mgrid[:200, :100].astype(np.uint8)
    image = np.stack([rows, columns, columns], axis=-1)
    before, _, _ = random_crop((image, image, columns), 64, np.random.default_rng(0), (2.0, 2.0))
    down, right = (np.ptp(before[8:-8, 8:-8, band].astype(int)) for band in (0, 1))
    assert down == right


@given(row=st.integers(0, 199), column=st.integers(0, 149), seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_a_focused_crop_holds_a_changed_pixel(row, column, seed):
    change = np.zeros((200, 150), np.uint8)
    change[row, column] = 1
    image = np.zeros((200, 150, 3), np.uint8)
    sample = random_crop((image, image, change), 64, np.random.default_rng(seed), focus=1.0)
    assert sample[2].shape == (64, 64)
    assert sample[2].sum() == 1


@pytest.mark.parametrize("name", ["mild", "strong"])
def test_some_augmentations_now_and_then_show_one_image_twice(name):
    image = random_image(1)
    other = random_image(2)
    stills = 0
    for seed in range(400):
        _, _, change = augmentation(name)((image, other, LABEL // 255), np.random.default_rng(seed))
        assert set(np.unique(change)) <= {0, 1}
        stills += not change.any()
    assert 3 <= stills <= 30

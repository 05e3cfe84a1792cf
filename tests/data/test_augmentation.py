"""What training draws: crops, augmentation, samplers."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ctma.data.augmentation import (
    AUGMENTATIONS,
    LOOKS,
    PAPER_CHOICES,
    augmentation,
    paper,
    random_crop,
    shift,
    split,
)
from ctma.data.dataset import Draw, PairDataset, ShareSampler, TrainingSampler
from ctma.data.pairs import Coding
from ctma.data.readers import find_pairs
from ctma.training.loaders import SINGLE_DATES
from support.images import LABEL, random_image, write_pair, write_split


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


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_plain_dates_are_those_before_their_look_changes(tiny_data, name):
    pairs = find_pairs(tiny_data, "train")
    scene, look = split(name)
    whole = PairDataset(pairs, Coding(), 64, augmentation(name))
    parted = PairDataset(pairs, Coding(), 64, scene, alter=look)
    looks = AUGMENTATIONS[name].keys() & {*LOOKS}
    bare = PairDataset(pairs, Coding(), 64, augmentation(name, looks))
    for draw in (Draw(index, seed) for index in range(3) for seed in range(20)):
        for found, expected in zip(parted[draw][:3], whole[draw][:3], strict=True):
            assert torch.equal(found, expected)
        assert torch.equal(parted[draw].plain, torch.stack([*bare[draw][:2]]))
        assert not whole[draw].plain.numel()


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
    dataset = PairDataset(find_pairs(tiny_data, "train"), Coding(), 64, paper)
    first, again = dataset[Draw(2, 99)], dataset[Draw(2, 99)]
    np.testing.assert_array_equal(first.before, again.before)
    assert any(not np.array_equal(first.before, dataset[Draw(2, s)].before) for s in range(5))


def test_changed_pixels_of_another_pair_are_laid_over_both_dates(tmp_path):
    write_split(tmp_path / "train", ["a", "b"], scale=255)
    donor = LABEL[::-1]
    write_pair(tmp_path / "train", "b", random_image(7), random_image(8), donor)
    pairs = find_pairs(tmp_path, "train")
    plain, mixed = (PairDataset(pairs, Coding(), 64, paste=odds) for odds in (0, 1))
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


def test_two_single_dates_make_a_pair_whose_change_is_what_one_of_them_has(tmp_path):
    for number, (left, right) in enumerate(((0, 30), (20, 50))):
        mask = np.zeros((64, 64), np.uint8)
        mask[:, left:right] = 255
        for folder, image in (("image", random_image(number, 64)), ("label", mask)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(image).save(tmp_path / folder / f"{number}.png")
    pairs = find_pairs(tmp_path, "all", folders=SINGLE_DATES)
    dataset = PairDataset(pairs, Coding(), 64, single=True)
    drawn = [dataset[Draw(0, seed)] for seed in range(12)]
    columns = {tuple(np.flatnonzero(batch.change[0, 0].numpy()).tolist()) for batch in drawn}
    assert columns == {(), (*range(20), *range(30, 50))}
    for batch in drawn:
        same = np.array_equal(batch.before, batch.after)
        assert same == (not batch.change.any())

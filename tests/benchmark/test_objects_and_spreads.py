"""Whole objects, spreads over scenes and seeds, and what a plan asks for."""

import shutil
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ctma.benchmark.plan import BenchmarkPlan, Budget, Cell
from ctma.benchmark.record import ScoreOfMasks
from ctma.benchmark.table import difference, make_rows
from ctma.data.dataset import TrainingSampler
from ctma.errors import SettingError, UnknownNameError
from ctma.evaluation.objects import ObjectScores, score_objects
from ctma.evaluation.records import HowScored
from ctma.evaluation.tally import Tally

MASKS = arrays.arrays(np.uint8, (12, 15), elements=st.integers(0, 1))


def test_objects_worked_out_by_hand():
    change, mask = np.zeros((2, 20, 20), np.uint8)
    change[1:5, 1:5] = mask[1:5, 2:6] = 1  # 12 of 20: the same
    change[1:5, 10:14] = mask[1:5, 13:17] = 1  # 4 of 28: missed, and a false one
    change[10:12, 10:12] = 1  # missed
    mask[15:17, 1:3] = mask[17:19, 3:5] = 1  # two false ones, which share no edge
    scores = score_objects(mask, change)
    assert scores == ObjectScores(found=1, missed=2, false=3)
    assert (scores.precision, scores.recall) == (0.25, pytest.approx(1 / 3))


@given(MASKS, MASKS)
@settings(max_examples=60, deadline=None)
def test_every_object_is_counted_once(mask, change):
    scores, swapped = score_objects(mask, change), score_objects(change, mask)
    assert scores.found == swapped.found
    assert (scores.missed, scores.false) == (swapped.false, swapped.missed)
    assert min(scores.as_dict().values()) >= 0
    same = score_objects(change, change)
    assert (same.missed, same.false) == (0, 0)
    assert same.found == scores.found + scores.missed


def test_the_curve_leads_from_everything_claimed_to_the_surest():
    tally = Tally()
    probability = np.float32([0.1, 0.2, 0.3, 0.6, 0.8, 0.9])
    tally.histogram.add(probability, np.uint8([0, 0, 1, 0, 1, 1]))
    found = [(round(recall, 3), round(precision, 3)) for recall, precision in tally.curve()]
    assert (1.0, 0.5) in found
    assert {(0.667, 1.0), (0.333, 1.0)} <= {*found}
    assert [recall for recall, _ in found] == sorted((r for r, _ in found), reverse=True)


def counts(f1, seeds=2, scenes=40):
    """Scenes of 1,000 changed pixels each, of which a share is found, and as many claimed."""
    noise = np.random.default_rng(int(1000 * f1)).uniform(-0.05, 0.05, scenes)
    found = np.round(1000 * (f1 + noise)).astype(int)
    return np.tile(np.stack([found, 1000 - found, 1000 - found], axis=-1), (seeds, 1, 1))


def test_a_difference_is_one_only_where_scenes_and_seeds_support_it():
    middle, low, high = difference(counts(0.9), counts(0.8))
    assert middle == pytest.approx(0.1, abs=0.02)
    assert 0 < low < middle < high
    uneven = counts(0.8)
    uneven[0, :, 0] += 150
    uneven[1, :, 0] -= 150
    _, low, high = difference(counts(0.81), uneven)
    assert low < 0 < high
    still = [[0, 0, 0]] * 3
    perfect, poor = (np.array([[one, *still]]) for one in ([100, 0, 0], [10, 0, 90]))
    assert difference(perfect, poor)[1] > 0.5, "scenes without change say nothing"


def test_the_best_stands_first_with_the_spread_of_the_others_behind_it():
    def record(network, seed, f1):
        found = {"found": 3, "missed": 1, "false": 0}
        right, wrong = round(100 * f1), round(100 - 100 * f1)
        counts = {"true_positive": right, "false_positive": wrong, "false_negative": wrong}
        how = HowScored(
            network=network, data_name="SVCD", data="abc", pairs=1, labels="0/255", split="test",
            protocol="whole", threshold=0.5, arithmetic="float32", engine="eager",
        )  # fmt: skip
        ratios = {"f1": f1, "precision": f1, "recall": f1, "iou": f1 / (2 - f1)}
        pair = {"name": "one/a", **counts, **found}
        return ScoreOfMasks(
            **how.as_dict(), **ratios, seed=seed, objects={**found, "f1": 0.8}, per_pair=[pair]
        )

    records = [record("bit", 0, 0.8), record("bit", 1, 0.9), record("fc-ef", 0, 0.7)]
    cost = {"fc-ef": {"parameters": 5, "gmac": 1.0, "pair_seconds": 0.5}}
    bit, fc_ef = make_rows(records, cost, "svcd")
    assert (bit.network, bit.seeds, bit.behind) == ("bit", 2, None)
    assert bit.scores["f1"].mean == pytest.approx(0.85)
    assert bit.scores["f1"].deviation == pytest.approx(0.0707, abs=1e-4)
    assert fc_ef.scores["f1"].deviation is None
    assert not fc_ef.as_good_as_the_best
    assert fc_ef.costs["pairs_a_second"] == 2
    assert fc_ef.published == 65.05


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"budget": "600x16"}, "STEPSxBATCHxCROP"),
        ({"budget": "600x0x128"}, "STEPSxBATCHxCROP"),
        ({"budget": None}, "`budget` is missing"),
        ({"recipe": "released"}, "has its own"),
        ({"models": ("bitt",)}, "bitt.*bit"),
        ({"devices": 3}, "do not share the batch"),
        ({"recipe": "best"}, "budget, released or"),
        ({"models": ()}, "`models`"),
        ({"models": ("bit", "bit")}, "each once"),
        ({"seeds": 0}, "`seeds`"),
        ({"protocol": "tiles"}, "tiles"),
    ],
)
def test_plans_that_cannot_be_meant_are_refused(changes, expected):
    plain = {"data": "D", "models": ("bit",), "budget": "600x16x128"}
    with pytest.raises((SettingError, UnknownNameError), match=expected):
        BenchmarkPlan(**plain | changes)


def test_a_budget_is_the_same_for_all_and_the_loss_a_networks_own(tiny_data):
    ours = {"data": str(tiny_data), "models": ("stanet", "bit")}
    plan = BenchmarkPlan(**ours, budget="60x8x64", settings=("bit:optimizer.lr=0.5",))
    stanet, bit = (plan.recipe_for(Cell(name, 3)) for name in plan.models)
    assert stanet.data == bit.data
    assert (bit.data.draws, bit.data.batch_size, bit.data.crop_size) == (80, 8, 64)
    assert bit.trainer.epochs * bit.data.draws == 60 * 8
    assert (stanet.loss.name, bit.loss.name) == ("contrastive", "nll")
    assert (stanet.optimizer.lr, bit.optimizer.lr) == (1e-3, 0.5)
    assert bit.seed == stanet.seed == 3
    assert bit.arguments["pretrained"]
    assert (
        BenchmarkPlan(**ours, budget="60x8x64", devices=2)
        .recipe_for(Cell("bit", 0))
        .data.batch_size
        == 4
    )
    scratch = BenchmarkPlan(**ours, budget="60x8x64", pretrained=False).recipe_for(Cell("bit", 0))
    assert not scratch.arguments["pretrained"]
    assert Budget(7, 8, 64).evaluations == 1


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("bits:a=1", "bits.*bit"),
        ("model.name=bit", "the benchmark's own"),
        ("data.sources=[{folder: more}]", "the benchmark's own"),
        ("data.validation_split=train", "the benchmark's own"),
        ("trainer.epochs=9", "follows from the budget"),
        ("bit:data.augmentation=strong", "the same for all"),
    ],
)
def test_settings_that_would_make_it_no_comparison_are_refused(tiny_data, setting, expected):
    plan = BenchmarkPlan(
        data=str(tiny_data), models=("bit",), budget="60x8x64", settings=(setting,)
    )
    with pytest.raises((SettingError, UnknownNameError), match=expected):
        plan.recipe_for(Cell("bit", 0))


def test_of_a_number_of_draws_every_pair_has_its_share():
    drawn = Counter(draw.index for draw in TrainingSampler(100, 1, 0, draws=250))
    assert len(drawn) == 100
    assert {*drawn.values()} == {2, 3}


def test_released_recipes_are_those_of_the_data(tmp_path, tiny_data):
    for split in ("train", "val", "test"):
        for folder, own in (("A", "A"), ("B", "B"), ("OUT", "label")):
            source = tiny_data / split / own
            shutil.copytree(source, tmp_path / "Real/subset" / split / folder)
    plan = BenchmarkPlan(data=str(tmp_path), models=("snunet",), recipe="released")
    assert plan.recipe_for(Cell("snunet", 0)).name == "svcd/snunet"
    plan = BenchmarkPlan(data=str(tmp_path), models=("snunet",), recipe="released/whu-cd")
    assert plan.recipe_for(Cell("snunet", 0)).optimizer.lr == 2e-4
    assert (
        BenchmarkPlan(data=str(tiny_data), models=("ctma",), budget="6x1x64")
        .recipe_for(Cell("ctma", 0))
        .arguments["fusion"]
        == 0.67
    )

"""Thresholds that promise how much of the change is missed at most."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctma import (
    DataError,
    MissSettings,
    Scoring,
    SettingError,
    UnknownNameError,
    calibrate,
    create_model,
    evaluate,
    limit_misses,
    read_header,
)
from ctma.checkpoints.conversion import convert
from ctma.evaluation.misses import STEPS, count_scenes, find_threshold
from support.commands import refused
from support.images import write_split


def losses_of(medians, spread=0.15):
    """Losses of scenes whose change has probabilities around these."""
    at = np.arange(STEPS) / STEPS
    return np.stack([np.clip((at - m + spread) / (2 * spread), 0, 1) for m in medians])


@pytest.mark.parametrize("sure", [None, 0.8])
def test_on_many_draws_of_scenes_the_promise_holds(sure):
    rng = np.random.default_rng(0)
    population = losses_of(rng.uniform(0.05, 0.95, 2000))
    truth = population.mean(axis=0)
    missed = [
        truth[find_threshold(population[rng.choice(2000, 60)], 0.25, sure)] for _ in range(300)
    ]
    if sure is None:
        assert 0.2 < np.mean(missed) <= 0.25
    else:
        assert np.mean(np.array(missed) > 0.25) <= 0.2
        assert np.mean(missed) > 0.1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.25, 0.9), min_size=30, max_size=60),
    st.sampled_from([0.1, 0.2, 0.4]),
    st.sampled_from([None, 0.5, 0.9]),
)
def test_a_smaller_promise_or_more_confidence_never_raises_the_threshold(medians, miss, sure):
    losses = losses_of(medians)
    index = find_threshold(losses, miss, sure)
    assert losses[:, index].mean() <= miss
    assert index <= find_threshold(losses, miss + 0.1, sure)
    if sure is not None:
        assert find_threshold(losses, miss, 0.92) <= max(index, find_threshold(losses, miss, 0.9))


def test_too_few_scenes_carry_no_promise():
    assert (count_scenes(0.1, None), count_scenes(0.1, 0.9)) == (9, 22)
    losses = losses_of([0.9] * 21)
    assert find_threshold(losses, 0.1, None) > 0
    with pytest.raises(DataError, match=r"21 scenes with change are too few.* needs 22 or more"):
        find_threshold(losses, 0.1, 0.9)
    with pytest.raises(DataError, match=r"no threshold misses at most 0\.3"):
        find_threshold(losses_of([0.05] * 40), 0.3, None)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve scenes of two crops each."""
    root = tmp_path_factory.mktemp("data")
    write_split(root / "val", [f"scene{n}_{crop}" for n in range(12) for crop in (0, 1)])
    return root


def test_a_checkpoint_keeps_the_promise_and_its_threshold(data, tmp_path):
    network = create_model("ctma-s", video_len=2).eval()
    path = tmp_path / "m.safetensors"
    limit = limit_misses(network, data, path, MissSettings(miss=0.2))
    assert (limit.scenes, limit.pairs) == (12, 24)
    assert limit.missed <= 0.2
    header = read_header(path)
    assert header.threshold == limit.threshold
    assert network.usage.threshold == limit.former_threshold
    assert (header.promise["miss"], header.promise["record"]["split"]) == (0.2, "val")
    score = evaluate(path, data, "val", Scoring(), output=tmp_path / "s.json").record.scores
    assert score.precision == pytest.approx(limit.precision, abs=1e-3)
    each = limit_misses(
        network, data, tmp_path / "e.safetensors", MissSettings(miss=0.2, scenes=r".*")
    )
    assert each.scenes == 24
    objects = limit_misses(
        network, data, tmp_path / "o.safetensors", MissSettings(miss=0.2, of="objects")
    )
    assert objects.missed <= 0.2


def test_wrong_input_is_one_line(ctma, tiny_model, data, tmp_path):
    command = ("calibrate", tiny_model, "--data", data, "-o", tmp_path / "m.safetensors")
    refused(ctma, "scenes with change are too few", *command, "--miss", "0.01")
    refused(
        ctma, "nothing is chosen on the test split", *command, "--miss", "0.2", "--split", "test"
    )
    refused(ctma, "--sure is for --miss", *command, "--sure", "0.9")
    refused(ctma, "finds nothing in", *command, "--miss", "0.2", "--scenes", "x(y)")
    refused(ctma, "no regular expression", *command, "--miss", "0.2", "--scenes", "(")
    assert not (tmp_path / "m.safetensors").exists()
    with pytest.raises(SettingError, match=r"`miss` 1\.5"):
        MissSettings(miss=1.5)
    with pytest.raises(UnknownNameError, match="of"):
        MissSettings(miss=0.5, of="pixels")


def test_the_command_says_what_it_promises(ctma, tiny_model, data, tmp_path):
    command = ("calibrate", tiny_model, "--data", data, "--miss", "0.3")
    said = ctma(*command, "-o", tmp_path / "m.safetensors").stdout
    assert (
        "at most 0.3 of a scene's changed area missed on average, in expectation, on scenes" in said
    )
    told = json.loads(ctma(*command, "-o", tmp_path / "j.safetensors", "--json").stdout)
    assert told["scenes"] == 12
    assert told["threshold"] == read_header(tmp_path / "j.safetensors").threshold


def test_crops_of_one_scene_carry_no_promise(data, tmp_path):
    one = tmp_path / "one/val"
    write_split(one, [f"town_{row}_{column}" for row in range(5) for column in range(5)])
    network = create_model("ctma-s", video_len=2).eval()
    with pytest.raises(DataError, match="1 scenes with change are too few"):
        limit_misses(network, one.parent, tmp_path / "m.safetensors", MissSettings(miss=0.2))
    own = MissSettings(miss=0.2, scenes=".*")
    assert limit_misses(network, one.parent, tmp_path / "m.safetensors", own).scenes == 25


def test_a_new_calibration_keeps_no_promise(data, tmp_path):
    network = create_model("ctma-s", video_len=2).eval()
    limit_misses(network, data, tmp_path / "m.safetensors", MissSettings(miss=0.2))
    calibrate(tmp_path / "m.safetensors", data, tmp_path / "c.safetensors")
    assert read_header(tmp_path / "c.safetensors").promise == {}
    for name, values in (("t", {"threshold": 0.5}), ("g", {"ground_sample_distance": 0.5})):
        convert(tmp_path / "m.safetensors", tmp_path / f"{name}.safetensors", **values)
    assert read_header(tmp_path / "t.safetensors").promise == {}
    assert read_header(tmp_path / "g.safetensors").promise["miss"] == 0.2


def test_scenes_of_several_folders_stay_apart(data, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(data, other)
    network = create_model("ctma-s", video_len=2).eval()
    limit = limit_misses(network, [data, other], tmp_path / "m.safetensors", MissSettings(miss=0.2))
    assert (limit.scenes, limit.pairs) == (24, 48)

"""A checkpoint learns the look of a place, says what that costs, and can be taken back."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import ctma
from ctma import AdaptationSettings, CtmaError, DataError, Learning, adapt
from ctma.adaptation.learning import find_learnable
from ctma.adaptation.scores import Seen, Setting, choose_setting, standard_error
from ctma.data.synthetic import synthetic_pair
from ctma.errors import CheckpointError, OutputError, SettingError
from ctma.evaluation.logits import LogitHistogram
from support.commands import refused, run_here
from support.images import write_pair

QUICK = Learning(steps=30, batch=4, rehearsed=2, crop=96, rate=2e-3)


def write_place(folder, train=5, val=3, *, seed=0, alter=lambda image: image, label=lambda c: c):
    """Drawn pairs; ``alter`` gives the place its look."""
    number = seed
    for split, count in (("train", train), ("val", val)):
        for index in range(count):
            before, after, change = synthetic_pair(128, number)
            write_pair(
                folder / split, f"{split}{index}", alter(before), alter(after), 255 * label(change)
            )
            number += 1
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A place whose colours are turned round."""
    return write_place(tmp_path_factory.mktemp("p") / "place", alter=lambda image: 255 - image)


@pytest.fixture(scope="module")
def former(tmp_path_factory):
    return write_place(tmp_path_factory.mktemp("f") / "former", 4, 4, seed=100)


@pytest.fixture(scope="module")
def adapted(place, former, tmp_path_factory):
    output = tmp_path_factory.mktemp("a") / "mine"
    settings = AdaptationSettings(learning=QUICK, most_loss=100)
    return adapt("ctma-lite", place, output, settings, rehearse=former)


def f1(model, data, folder):
    return 100 * ctma.evaluate(
        model, data, "val", ctma.Scoring(protocol="whole"), output=folder / "s.json", overwrite=True
    ).record.scores.f1  # fmt: skip


def test_a_place_is_learned_and_the_file_is_small(adapted, place, tmp_path):
    assert adapted.here.after > adapted.here.before + 5
    assert adapted.here.pairs == 3
    assert adapted.elsewhere.pairs == 4
    assert adapted.bytes == adapted.checkpoint.stat().st_size < 2_000_000
    assert f1("ctma-lite", place, tmp_path) == pytest.approx(adapted.here.before, abs=1)
    assert f1(adapted.checkpoint.parent, place, tmp_path) == pytest.approx(
        adapted.here.after, abs=1
    )


def test_only_the_last_layers_differ_from_the_checkpoint_it_names(adapted):
    old, new = ctma.load_model("ctma-lite"), ctma.load_model(adapted.checkpoint)
    state = new.state_dict()
    changed = {n for n, weight in old.state_dict().items() if not torch.equal(weight, state[n])}
    assert changed == set(find_learnable(old))
    assert not any(name.startswith("backbone.") for name in changed)
    header = ctma.read_header(adapted.checkpoint)
    assert header.adapts["name"] == "ctma-lite"
    assert header.adaptation["here"]["after"] == adapted.here.after
    with safe_open(adapted.checkpoint, framework="np") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118
    record = json.loads((adapted.checkpoint.parent / "adaptation.json").read_text())
    assert record == adapted.as_dict() | {"from": "ctma-lite.safetensors"}


def test_what_was_adapted_is_adapted_again_and_made_whole(place, tmp_path):
    begun = adapt(
        "ctma-lite", place, tmp_path / "begun", AdaptationSettings(learning=QUICK.replace(steps=8))
    )
    settings = AdaptationSettings(learning=QUICK)
    again = adapt(begun.checkpoint.parent, place, tmp_path / "again", settings)
    assert ctma.read_header(again.checkpoint).adapts["name"] == "ctma-lite"
    assert again.here.before == pytest.approx(begun.here.after, abs=3)
    whole = tmp_path / "whole.safetensors"
    ctma.convert(again.checkpoint, whole)
    assert not ctma.read_header(whole).adapts
    first, second = (ctma.load_model(path).state_dict() for path in (again.checkpoint, whole))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_adapter_finds_its_checkpoint_where_both_were_moved(place, tmp_path):
    ctma.save_model(tmp_path / "a" / "old.safetensors", ctma.load_model("ctma-lite"))
    settings = AdaptationSettings(learning=QUICK.replace(steps=5))
    adapt(tmp_path / "a" / "old.safetensors", place, tmp_path / "a" / "mine", settings)
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert ctma.load_model(tmp_path / "b/mine").name == "ctma-lite"
    other = ctma.create_model("ctma-lite", video_len=0, fusion=0.5)
    ctma.save_model(tmp_path / "b/old.safetensors", other)
    with pytest.raises(CheckpointError, match=r"adapts another .*old\.safetensors"):
        ctma.load_model(tmp_path / "b/mine")
    (tmp_path / "b/old.safetensors").unlink()
    with pytest.raises(CheckpointError, match="which is not there any more"):
        ctma.load_model(tmp_path / "b/mine")


def test_a_threshold_alone_is_adapted(place, tmp_path):
    network = ctma.load_model("ctma-lite")
    network.usage = network.usage.replace(threshold=0.999)
    ctma.save_model(tmp_path / "high.safetensors", network)
    command = ("adapt", tmp_path / "high.safetensors", "--data", place, "--calibrate-only", "-o")
    out = run_here(*command, tmp_path / "mine").stdout
    assert "here +" in out
    assert "elsewhere not measured" in out
    told = json.loads(run_here(*command, tmp_path / "json", "--json").stdout)
    assert told["elsewhere"] is None
    refused(run_here, "--minutes has no part in --calibrate-only", *command, tmp_path / "x",
            "--minutes", 3)  # fmt: skip
    found = ctma.load_model(tmp_path / "mine")
    assert found.usage.threshold < 0.9
    assert (tmp_path / "mine/best.safetensors").stat().st_size < 20_000
    assert f1(tmp_path / "mine", place, tmp_path) > f1(network, place, tmp_path) + 5


def test_what_costs_too_much_elsewhere_is_refused(place, former, tmp_path):
    wrong = shutil.copytree(former, tmp_path / "wrong")
    for path in (wrong / "train/label").glob("*.png"):
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    much = QUICK.replace(hold=0.0, rehearsed=1, steps=60, rate=4e-3)
    settings = AdaptationSettings(learning=much, most_loss=0.5)
    with pytest.raises(DataError, match=r"loses [\d.]+ elsewhere, more than `most_loss` 0.5"):
        adapt("ctma-lite", place, tmp_path / "mine", settings, rehearse=wrong)
    assert not (tmp_path / "mine/best.safetensors").exists()


def test_what_gains_nothing_here_is_refused(place, tmp_path):
    settings = AdaptationSettings(learning=QUICK.replace(rate=3.0, steps=4))
    with pytest.raises(DataError, match=r"learning gains -[\d.]+ ± .* stays as it is"):
        adapt("ctma-lite", place, tmp_path / "mine", settings)
    assert not (tmp_path / "mine/best.safetensors").exists()


def test_held_out_changes_that_are_never_found_are_named(place, tmp_path):
    data = shutil.copytree(place, tmp_path / "data")
    for path in (data / "val/A").glob("*.png"):
        shutil.copy(path, data / "val/B" / path.name)
    settings = AdaptationSettings(learning=QUICK.replace(steps=1))
    with pytest.raises(DataError, match="neither the old nor the new weights find a held-out"):
        adapt("ctma-lite", data, tmp_path / "mine", settings)


@pytest.mark.parametrize(
    ("change", "split", "message"),
    [
        (lambda label: label * 0, "train", "0 changes in the tiles to learn from"),
        (lambda label: label * 0 + 255, "train", "labels of change alone"),
        (lambda label: label * 0, "val", "no held-out tile shows change"),
    ],
)
def test_tiles_that_teach_nothing_are_refused(place, tmp_path, change, split, message):
    data = shutil.copytree(place, tmp_path / "data")
    for path in (data / split / "label").glob("*.png"):
        Image.fromarray(change(np.asarray(Image.open(path)))).save(path)
    with pytest.raises(DataError, match=message):
        adapt("ctma-lite", data, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_wrong_input_is_refused(place, adapted, tmp_path):
    mine, empty = adapted.checkpoint.parent, tmp_path / "empty"
    empty.mkdir()
    for mistake, kind, message in (
        (lambda: adapt("ctma-lite", empty, tmp_path / "m"), DataError, "no split 'train'"),
        (lambda: adapt("ctma-lite", place, place / "m"), OutputError, "lies within"),
        (lambda: adapt("ctma-lite", place, mine), OutputError, "there already"),
        (lambda: AdaptationSettings(minutes=0), SettingError, "minutes"),
        (lambda: AdaptationSettings(most_loss=-1), SettingError, "most_loss"),
        (lambda: adapt("nothing", place, tmp_path / "m"), CtmaError, "no such checkpoint"),
    ):
        with pytest.raises(kind, match=message):
            mistake()


def test_the_old_checkpoint_is_never_replaced(place, tmp_path):
    ctma.save_model(tmp_path / "run" / "best.safetensors", ctma.load_model("ctma-lite"))
    old = (tmp_path / "run/best.safetensors").read_bytes()
    with pytest.raises(OutputError, match="is the old checkpoint"):
        adapt(tmp_path / "run", place, tmp_path / "run", overwrite=True)
    assert (tmp_path / "run/best.safetensors").read_bytes() == old


def test_calling_everything_change_is_no_gain(tmp_path):
    columns = np.arange(128) // 8 % 2
    stripes = write_place(
        tmp_path / "p", label=lambda change: change * 0 + columns.astype(np.uint8)
    )
    with pytest.raises(DataError, match="no better than calling every pixel change"):
        adapt("ctma-lite", stripes, tmp_path / "mine", AdaptationSettings(calibrate_only=True))


def test_an_adapter_is_told_whole_and_calibrated_on_held_out_tiles_alone(adapted, place, tmp_path):
    assert ctma.info(adapted.checkpoint)["parameters"] == ctma.info("ctma-lite")["parameters"]
    network = ctma.load_model(adapted.checkpoint)
    network.usage = network.usage.replace(threshold=0.99)
    ctma.save_model(tmp_path / "high.safetensors", network)
    settings = AdaptationSettings(calibrate_only=True)
    assert adapt(tmp_path / "high.safetensors", place, tmp_path / "m", settings).here.pairs == 3


def test_less_time_means_fewer_steps(place, tmp_path):
    done = []
    settings = AdaptationSettings(minutes=1e-4, learning=QUICK.replace(rate=1e-9))
    # Three steps at no rate gain nothing, which is refused.
    with pytest.raises(DataError, match=r"gains \+0\.0"):
        adapt(
            "ctma-lite", place, tmp_path / "mine", settings,
            on_progress=lambda number, total: done.append((number, total)),
        )  # fmt: skip
    assert done[-1] == (3, 3)


def histogram(seed, shift=0.0, pixels=4000):
    """Logits of changed pixels around 2 and of others around -2, all moved."""
    rng = np.random.default_rng(seed)
    change = (rng.random(pixels) < 0.1).astype(np.uint8)
    logits = rng.normal(4.0 * change - 2 + shift, 1)
    found = LogitHistogram()
    found.add((1 / (1 + np.exp(-logits))).astype(np.float32), change)
    return found


def test_a_setting_changes_only_where_left_out_tiles_gain():
    plain = Setting(1.0, 0.0, 0.5)
    fitting = Seen([histogram(seed) for seed in range(6)])
    best = Setting(1.0, 0.0, 0.62)
    assert choose_setting(fitting, best)[0] == best
    moved = Seen([histogram(seed, shift=3) for seed in range(6)])
    setting, expected = choose_setting(moved, plain)
    assert moved.f1(setting) > moved.f1(plain) + 10
    assert expected == pytest.approx(moved.f1(setting), abs=1.5)
    assert choose_setting(Seen([histogram(1, shift=3)]), plain)[0] == plain


def test_the_standard_error_is_that_of_other_tiles():
    rng = np.random.default_rng(0)
    found = rng.integers(50, 100, 40).astype(float)
    before = np.stack([found, np.full(40, 20.0), 100 - found], axis=1)
    same = standard_error(before, before)
    after = before + np.stack([rng.integers(-5, 6, 40).astype(float)] + [np.zeros(40)] * 2, axis=1)
    assert same == 0
    assert 0 < standard_error(before, after) < 3
    assert standard_error(before[:1], after[:1]) is None

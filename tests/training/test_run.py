"""Trainings: run, killed, resumed, shared, mixed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image

from ctma import (
    CtmaWarning,
    Recipe,
    create_model,
    load_model,
    load_recipe,
    predict,
    read_header,
    save_model,
    train,
)
from ctma.data.augmentation import AUGMENTATIONS
from ctma.errors import (
    CheckpointError,
    CtmaError,
    DataError,
    OutputError,
    SettingError,
    UnknownNameError,
)
from ctma.files import file_fingerprint, sole_run
from ctma.models.registry import model_arguments
from ctma.training.loaders import find_training_pairs
from ctma.training.recipes import load_kept
from ctma.training.settings import SourceSettings
from support import ROOT
from support.commands import refused
from support.images import write_pair
from support.training import SMALL, logged, small_recipe, without_change

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tiny_data, tmp_path_factory):
    """A training of three epochs, with a learning rate that falls after each."""
    folder = tmp_path_factory.mktemp("run") / "run"
    recipe = small_recipe("trainer.epochs=3", "schedule.step_size=1", "schedule.gamma=0.5")
    return folder, train(recipe, tiny_data, folder, device="cpu")


def test_a_run_leaves_checkpoints_logs_and_its_recipe(run):
    folder, result = run
    assert result.best == folder / "best.safetensors"
    weights = {"best.safetensors", "latest.safetensors", "latest.ckpt"}
    assert weights | {"recipe.yaml", "logs"} == set(os.listdir(folder))
    assert len(logged(folder, "val_f1")) == 3
    assert list(folder.glob("logs/events.out.tfevents*"))


def test_the_best_checkpoint_says_where_it_comes_from(run, tiny_data):
    folder, result = run
    header = read_header(folder / "best.safetensors")
    assert header.network == "ctma-s"
    assert header.epoch == result.epoch
    assert header.ground_sample_distance is None
    assert header.initial_weights == {}
    assert header.training_data["pairs"] == 8
    assert len(header.training_data["fingerprint"]) == 16
    assert header.recipe["name"] == "levir-cd/ctma-s"
    (scores,) = header.scores
    assert (scores["split"], scores["protocol"], scores["threshold"]) == ("val", "crops", 0.5)
    best = max(logged(folder, "val_f1").values(), key=float)
    assert scores["f1"] == pytest.approx(float(best))


def test_parts_of_the_augmentation_that_are_left_out_are_not_drawn(tiny_data, tmp_path):
    bare = ["data.augmentation=strong", f"data.without={[*AUGMENTATIONS['strong']]}"]
    for name, settings in {"none": ["data.augmentation=none"], "bare": bare}.items():
        recipe = small_recipe("trainer.epochs=1", *settings)
        train(recipe, tiny_data, tmp_path / name, device="cpu")
    losses = [logged(tmp_path / name, "train_loss_epoch") for name in ("none", "bare")]
    assert losses[0]
    assert losses[0] == losses[1]


def test_a_second_training_in_the_same_folder_is_refused(run, tiny_data):
    with pytest.raises(OutputError, match="add `resume`"):
        train(small_recipe(), tiny_data, run[0], device="cpu")


@pytest.mark.long
def test_killed_in_mid_epoch_and_resumed_the_curve_is_the_uninterrupted_one(
    run, tiny_data, tmp_path
):
    folder = tmp_path / "run"
    settings = [*SMALL, "trainer.epochs=3", "schedule.step_size=1", "schedule.gamma=0.5"]
    settings += ["data.workers=1"]  # which draws ahead; the curve is that of any number
    command = [sys.executable, "-m", "ctma", "train", "levir-cd/ctma-s", "--data", tiny_data]
    command += ["-o", folder, "--device", "cpu"]
    command += [part for setting in settings for part in ("--set", setting)]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 200
    while not (folder / "latest.ckpt").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = torch.load(folder / "latest.ckpt", weights_only=True)["epoch"] + 1
    assert kept < 3

    subprocess.run([*map(str, command), "--resume"], check=True, capture_output=True)
    resumed = logged(folder, "train_loss_epoch")
    whole = logged(run[0], "train_loss_epoch")
    assert {p: resumed[p] for p in resumed if p[0] > kept} == {
        p: whole[p] for p in whole if p[0] > kept
    }
    scores = [logged(path, "val_f1") for path in (folder, run[0])]
    assert {p: v for p, v in scores[0].items() if p[0] > kept} == {
        p: v for p, v in scores[1].items() if p[0] > kept
    }
    weights = [torch.load(path / "latest.ckpt", weights_only=True) for path in (folder, run[0])]
    for name, weight in weights[0]["state_dict"].items():
        assert torch.equal(weight, weights[1]["state_dict"][name]), name


def test_ctrl_c_is_what_it_is_everywhere_and_the_training_can_be_resumed(tiny_data, tmp_path):
    class Interrupt(Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.current_epoch == 1:
                raise KeyboardInterrupt

    recipe = small_recipe("trainer.epochs=2")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tiny_data, tmp_path, device="cpu", callbacks=(Interrupt(),))
    assert len(logged(tmp_path, "val_f1")) == 1
    train(recipe, tiny_data, tmp_path, device="cpu", resume=True)
    assert len(logged(tmp_path, "val_f1")) == 2


@pytest.mark.parametrize("setting", ["optimizer.lr=0.05", "seed=7", "data.augmentation=none"])
def test_a_resume_by_other_settings_is_refused(run, tiny_data, setting):
    recipe = small_recipe("trainer.epochs=3", "schedule.step_size=1", "schedule.gamma=0.5", setting)
    with pytest.raises(SettingError, match=f"was trained with {setting.split('=')[0]} "):
        train(recipe, tiny_data, run[0], device="cpu", resume=True)
    assert load_recipe(str(run[0] / "recipe.yaml")).seed == 0


def test_a_recipe_that_is_given_whole_is_checked_too(tiny_data, tmp_path):
    content = small_recipe().model_dump()
    content["data"]["validation_split"] = "test"
    with pytest.raises(SettingError, match="never picked on test"):
        train(Recipe(**content), tiny_data, tmp_path / "run", device="cpu")


def test_a_resume_compares_without_the_runs_recipe_and_knows_defaults(run, tiny_data, tmp_path):
    folder = shutil.copytree(run[0], tmp_path / "run")
    (folder / "recipe.yaml").unlink()
    settings = ["trainer.epochs=3", "schedule.step_size=1", "schedule.gamma=0.5"]
    with pytest.raises(SettingError, match=r"was trained with optimizer\.lr"):
        train(small_recipe(*settings, "optimizer.lr=0.1"), tiny_data, folder, resume=True)
    same = small_recipe(*settings, "model.joint_statistics=false")
    assert train(same, tiny_data, folder, device="cpu", resume=True).epoch == run[1].epoch


def test_a_resume_to_fewer_epochs_than_are_done_is_refused(run, tiny_data):
    kept = (run[0] / "recipe.yaml").read_text()
    recipe = small_recipe("trainer.epochs=1", "schedule.step_size=1", "schedule.gamma=0.5")
    with pytest.raises(SettingError, match="has 3 epochs, more than 1"):
        train(recipe, tiny_data, run[0], device="cpu", resume=True)
    assert (run[0] / "recipe.yaml").read_text() == kept


def test_two_trainings_in_one_folder_at_once_are_refused(tiny_data, tmp_path):
    with sole_run(tmp_path), pytest.raises(OutputError, match="another run is writing"):
        train(small_recipe(), tiny_data, tmp_path, device="cpu")
    assert os.listdir(tmp_path) == []


def test_early_stop_is_not_forgotten_by_a_resume(tiny_data, tmp_path):
    data = without_change(tiny_data, tmp_path / "data")
    recipe = small_recipe("trainer.patience=2", "trainer.epochs=9")
    first = train(recipe, data, tmp_path / "run", device="cpu")
    assert len(logged(tmp_path / "run", "val_f1")) == 3
    said = []
    again = train(recipe, data, tmp_path / "run", device="cpu", resume=True, on_note=said.append)
    assert again == first
    assert len(logged(tmp_path / "run", "val_f1")) == 3
    assert said == [
        "stopped after 3 epochs: the last 2 brought no better F1; a larger trainer.patience goes on"
    ]


def test_a_resume_on_other_data_is_refused(run, tiny_data, tmp_path):
    recipe = small_recipe("trainer.epochs=4", "schedule.step_size=1", "schedule.gamma=0.5")
    for split, kind in (("train", "training"), ("val", "validation")):
        other = shutil.copytree(tiny_data, tmp_path / split / "other")
        first, second = sorted((other / split / "B").iterdir())[:2]
        shutil.copy(first, second)
        with pytest.raises(SettingError, match=f"whose {kind} pairs were others than those of oth"):
            train(recipe, other, run[0], device="cpu", resume=True)
    assert load_kept(run[0] / "recipe.yaml").trainer.epochs == 3


def test_a_resume_without_the_best_checkpoint_so_far_is_refused(run, tiny_data, tmp_path):
    folder = shutil.copytree(run[0], tmp_path / "run")
    (folder / "best.safetensors").unlink()
    recipe = small_recipe("trainer.epochs=4", "schedule.step_size=1", "schedule.gamma=0.5")
    with pytest.raises(CheckpointError, match=r"best.safetensors: is gone, which epoch \d left"):
        train(recipe, tiny_data, folder, device="cpu", resume=True)


def test_a_resume_where_nothing_is_says_so(tiny_data, tmp_path):
    said = []
    train(small_recipe(), tiny_data, tmp_path, device="cpu", resume=True, on_note=said.append)
    assert said[0] == "there is no training to resume yet, a new one begins"


def test_a_recipe_file_that_was_edited_is_not_resumed_by(tiny_data, tmp_path, ctma):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("model: {name: ctma-s}\n")
    settings = [part for setting in SMALL for part in ("--set", setting)]
    command = ["train", recipe, "--data", tiny_data, "-o", tmp_path / "run", "--device", "cpu"]
    ctma(*command, *settings)
    ctma(*command, "--resume", "--set", "trainer.epochs=2")
    recipe.write_text("model: {name: ctma-s}\noptimizer: {lr: 0.1}\n")
    refused(ctma, "mine.yaml: is not as it was", *command, "--resume")


def test_resume_keeps_to_the_runs_own_recipe(tiny_data, tmp_path, ctma):
    run = tmp_path / "run"
    settings = [part for setting in SMALL for part in ("--set", setting)]
    command = ["train", "levir-cd/ctma-s", "--data", tiny_data, "-o", run, "--device", "cpu"]
    ctma(*command, *settings, "--precision", "bf16")
    ctma(*command, "--resume", "--set", "trainer.epochs=3")
    assert len(logged(run, "val_f1")) == 3
    header = read_header(run / "best.safetensors")
    assert header.recipe["data"]["batch_size"] == 4
    assert header.recipe["trainer"]["precision"] == "bf16"
    result = ctma(*command, "--resume", "--set", "model.video_len=3", code=2)
    assert "was trained with model" in result.stderr
    result = ctma(*command, "--resume", "--set", "trainer.average=0.9", code=2)
    assert "was trained with trainer.average None, not 0.9" in result.stderr
    other = ctma("train", "svcd/ctma-s", *command[2:], "--resume", code=2)
    assert "was trained by levir-cd/ctma-s" in other.stderr
    (run / "latest.ckpt").write_bytes((run / "latest.ckpt").read_bytes()[:9999])
    assert "latest.ckpt: not a whole" in ctma(*command, "--resume", code=2).stderr


def test_automatic_precision_is_bf16_where_the_processor_multiplies_it(
    tiny_data, tmp_path, monkeypatch
):
    units = ("amx_bf16", "avx512_bf16")

    def trained(output, found, epochs=1, resume=False):
        capabilities = {unit: unit == found for unit in units}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
        recipe = small_recipe(f"trainer.epochs={epochs}")
        train(recipe, tiny_data, tmp_path / output, device="cpu", precision="auto",
              resume=resume)  # fmt: skip
        return read_header(tmp_path / output / "latest.safetensors").recipe["trainer"]["precision"]

    assert [trained(name, name) for name in units] == ["bf16", "bf16"]
    assert trained("neither", None) == "float32"
    assert trained("neither", units[0], epochs=2, resume=True) == "float32"


@pytest.mark.long
def test_two_processes_train_and_score_as_one_to_the_last_pixel(
    tiny_data, tmp_path, ctma, ctma_alone
):
    # Five validation pairs do not share evenly between two processes.
    folder = tmp_path / "run"
    settings = [part for setting in [*SMALL, "trainer.epochs=1"] for part in ("--set", setting)]
    ctma_alone("train", "levir-cd/ctma-s", "--data", tiny_data, "-o", folder, *settings,
               "--devices", 2, "--device", "cpu")  # fmt: skip
    together = read_header(folder / "best.safetensors").scores[0]
    alone = ctma(
        "eval", folder / "best.safetensors", "--data", tiny_data, "--split", "val", "--json"
    )
    alone = json.loads(alone.stdout)
    counts = ("true_positive", "false_positive", "false_negative", "true_negative")
    assert {name: together[name] for name in counts} == {name: alone[name] for name in counts}
    assert sum(alone[name] for name in counts) == 5 * 64 * 64


def test_bf16_accumulation_and_early_stop_work(tiny_data, tmp_path):
    data = without_change(tiny_data, tmp_path / "data")
    recipe = small_recipe(
        "trainer.precision=bf16", "trainer.accumulate=2", "data.batch_size=2",
        "trainer.patience=1", "trainer.epochs=6",
    )  # fmt: skip
    train(recipe, data, tmp_path / "run", device="cpu")
    assert len(logged(tmp_path / "run", "val_f1")) == 2


def test_a_training_that_diverged_says_so(tiny_data, tmp_path):
    with pytest.raises(SettingError, match="the training diverged"):
        train(small_recipe("optimizer.lr=1e30"), tiny_data, tmp_path / "run", device="cpu")


def test_every_epoch_learns_in_training_mode(tiny_data, tmp_path):
    learning = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer, module, *_):
            learning.append(all(part.training for part in module.network.modules()))

    recipe = small_recipe("trainer.epochs=2")
    train(recipe, tiny_data, tmp_path / "run", device="cpu", callbacks=(Watch(),))
    assert learning == [True] * len(learning)


def test_what_is_kept_is_the_moving_average_of_the_weights(tiny_data, tmp_path):
    # Four steps; the average starts as the weights after the first.
    steps = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, module, *_):
            steps.append(module.network.coarse_head.weight.detach().clone())

    recipe = small_recipe("data.batch_size=2", "trainer.epochs=1", "trainer.average=0.9")
    result = train(recipe, tiny_data, tmp_path / "run", device="cpu", callbacks=(Watch(),))
    latest = load_model(tmp_path / "run" / "latest.safetensors")
    torch.testing.assert_close(
        latest.coarse_head.weight, load_model(result.best).coarse_head.weight
    )
    assert latest.provenance["epoch"] == 1
    assert len(steps) == 4
    expected = steps[0]
    for weight in steps[1:]:
        expected = 0.9 * expected + 0.1 * weight
    torch.testing.assert_close(load_model(result.best).coarse_head.weight, expected)


def test_a_moving_average_is_taken_up_again_by_a_resume(tiny_data, tmp_path):
    whole = train_with_average(tiny_data, tmp_path / "whole", epochs=2)
    parts = train_with_average(tiny_data, tmp_path / "parts", epochs=1)
    parts = train_with_average(tiny_data, tmp_path / "parts", epochs=2, resume=True)
    assert whole.keys() == parts.keys()
    assert any(name.startswith("average.") for name in whole)
    for name, weight in whole.items():
        assert torch.equal(weight, parts[name]), name


def train_with_average(data, run, epochs, resume=False):
    recipe = small_recipe(f"trainer.epochs={epochs}", "trainer.average=0.9")
    train(recipe, data, run, device="cpu", resume=resume)
    return torch.load(run / "latest.ckpt", weights_only=True)["state_dict"]


def test_training_starts_from_given_weights(run, tiny_data, tmp_path):
    start = run[0] / "best.safetensors"
    recipe = small_recipe("optimizer.lr=1e-12", "trainer.epochs=1")
    result = train(recipe, tiny_data, tmp_path / "tuned", init=start, device="cpu")
    found, expected = (load_model(path).coarse_head.weight for path in (result.best, start))
    torch.testing.assert_close(found, expected)
    initial = {"name": "best.safetensors", "fingerprint": file_fingerprint(start)}
    assert read_header(result.best).initial_weights == initial


def test_a_fine_tuned_network_sees_as_the_one_it_began_from(run, tiny_data, tmp_path):
    began = load_model(run[0] / "best.safetensors")
    began.usage = began.usage.replace(scaling=128.0, threshold=0.9)
    save_model(tmp_path / "began.safetensors", began)
    recipe = small_recipe("optimizer.lr=1e-12", "trainer.epochs=1")
    init = tmp_path / "began.safetensors"
    found = load_model(train(recipe, tiny_data, tmp_path / "run", init=init, device="cpu").best)
    assert found.usage.scaling == 128.0
    assert found.usage.threshold == 0.5, "is another one after training"


@pytest.mark.long
def test_a_full_network_grows_from_a_compact_one_but_not_the_other_way(tiny_data, tmp_path):
    narrow = ["model.temporal_width=16", "model.spatial_widths=[16, 32, 64]", "model.video_len=8"]
    brief = ["optimizer.lr=1e-12", "trainer.epochs=1"]
    recipe = load_recipe("levir-cd/ctma", [*SMALL, *narrow, *brief])
    notes = []
    output = tmp_path / "full"
    grown = train(recipe, tiny_data, output, init="ctma-s", device="cpu", on_note=notes.append)
    assert any("ctma-s, grown" in note for note in notes)
    found, expected = (load_model(path).coarse_head.weight for path in (grown.best, "ctma-s"))
    torch.testing.assert_close(found, expected)
    header = read_header(grown.best)
    assert header.network == "ctma"
    assert header.initial_weights["name"] == "ctma-s.safetensors"
    back = load_recipe("levir-cd/ctma-s", [*SMALL, "model.video_len=8"])
    with pytest.raises(CheckpointError, match=r"this ctma cannot start the recipe's ctma-s"):
        train(back, tiny_data, tmp_path / "back", init=grown.best, device="cpu")
    assert not (tmp_path / "back").exists()
    wider = load_recipe("levir-cd/ctma", [*SMALL, *narrow, *brief, "model.temporal_width=20"])
    again = train(wider, tiny_data, tmp_path / "wider", init=grown.best, device="cpu").best
    assert load_model(again).coarse_head.weight.shape[1] == 160


@pytest.mark.long
def test_a_resumed_training_remembers_where_it_began(run, tiny_data, tmp_path):
    folder = tmp_path / "tuned"
    start = run[0] / "best.safetensors"
    # Change that counts a hundred times is found, so that there is a better epoch to keep.
    eager = ["loss.class_weights=[0.01, 0.99]"]
    recipe = small_recipe("trainer.epochs=1", *eager)
    first = train(recipe, tiny_data, folder, init=start, device="cpu")
    initial = read_header(first.best).initial_weights
    assert initial["fingerprint"] == file_fingerprint(start)
    longer = small_recipe("trainer.epochs=8", *eager)
    resumed = train(longer, tiny_data, folder, device="cpu", resume=True)
    assert resumed.epoch > 1
    assert read_header(resumed.best).initial_weights == initial
    other = resumed.best
    with pytest.raises(SettingError, match=r"began from best\.safetensors"):
        train(longer, tiny_data, folder, init=other, device="cpu", resume=True)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        train(longer, tiny_data, folder, init="nosuch", device="cpu", resume=True)


def test_one_cycle_is_not_resumed_with_more_steps_than_it_has(tiny_data, tmp_path):
    cycle = ["schedule.name=one-cycle", "model.video_len=2"]
    first = small_recipe(*cycle, "trainer.epochs=1")
    train(first, tiny_data, tmp_path, device="cpu")
    for setting in ("trainer.epochs=2", "data.batch_size=2"):
        longer = small_recipe(*cycle, "trainer.epochs=1", setting)
        with pytest.raises(SettingError, match=f"{setting[:-2]} .*`init`"):
            train(longer, tiny_data, tmp_path, device="cpu", resume=True)


def test_initial_weights_that_know_their_distance_ask_for_the_datas(tiny_data, tmp_path):
    notes = []
    train(
        load_recipe("levir-cd/ctma-s", [*SMALL, "model.video_len=8", "trainer.epochs=1"]),
        tiny_data,
        tmp_path,
        init="ctma-s",
        device="cpu",
        on_note=notes.append,
    )
    assert any("data.ground_sample_distance=0.5" in note for note in notes)


def test_initial_weights_of_another_scale_are_refused_and_other_arguments_told(tiny_data, tmp_path):
    unet = create_model("unet", normalised=False)
    save_model(tmp_path / "unet.safetensors", unet, scores=[])
    recipe = load_recipe(
        "levir-cd/unet", ["model.pretrained=false", "data.crop_size=64", "trainer.epochs=1"]
    )
    with pytest.raises(CheckpointError, match=r"say `settings` model\.normalised=false"):
        train(recipe, tiny_data, tmp_path / "run", init=tmp_path / "unet.safetensors")
    save_model(
        tmp_path / "s.safetensors", create_model("ctma-s", fusion=0.9, video_len=2), scores=[]
    )
    notes = []
    train(
        small_recipe("trainer.epochs=1", "model.video_len=2"), tiny_data, tmp_path / "s",
        init=tmp_path / "s.safetensors", on_note=notes.append,
    )  # fmt: skip
    assert any("model.fusion=0.9, this training has" in note for note in notes)


def test_single_dates_of_the_test_split_are_not_trained_on(tiny_data, tmp_path):
    root = shutil.copytree(tiny_data, tmp_path / "all")
    for split in ("train", "test"):
        for role, name in (("A", "image"), ("label", "label")):
            shutil.copytree(tiny_data / split / role, root / "single" / split / name)
    settings = small_recipe("data.sources=[{folder: .}, {folder: single, single: true}]").data
    found = find_training_pairs(root, settings).training[1]
    assert {pair.before.parent.parent.name for pair in found} == {"train"}
    bare = settings.model_copy(
        update={"sources": [settings.sources[0], SourceSettings(folder="bare", single=True)]}
    )
    shutil.copytree(root / "single/test", root / "bare")
    assert len(find_training_pairs(root, bare).training[1]) == 4


def test_a_training_is_resumed_on_as_many_devices(tiny_data, tmp_path):
    train(small_recipe("trainer.epochs=1"), tiny_data, tmp_path / "run", device="cpu")
    with pytest.raises(SettingError, match="devices 1, not 2"):
        train(
            small_recipe("trainer.epochs=2"), tiny_data, tmp_path / "run", device="cpu",
            devices=2, resume=True,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "options", "expected"),
    [
        (["model.bands=4"], {}, "the network takes 4"),
        ([], {"devices": 6}, "`devices` 6: there are only 5 validation pairs"),
        ([], {"devices": 9}, "`devices` 9: there are only 8 training pairs"),
        ([], {"device": "abacus"}, "`device` 'abacus' is not here"),
        ([], {"precision": "half"}, "unknown precision"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(
    tiny_data, tmp_path, settings, options, expected
):
    with pytest.raises((SettingError, UnknownNameError), match=expected):
        train(small_recipe(*settings), tiny_data, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_training_without_validation_pairs_is_refused(tmp_path):
    write_pair(tmp_path / "train", "a", *(torch.zeros(64, 64, 3, dtype=torch.uint8).numpy(),) * 2,
               torch.zeros(64, 64, dtype=torch.uint8).numpy())  # fmt: skip
    with pytest.raises(DataError, match="no split 'val'"):
        train(small_recipe(), tmp_path, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_validation_without_change_is_said_to_choose_nothing(tiny_data, tmp_path):
    data = without_change(tiny_data, tmp_path / "data")
    with pytest.warns(CtmaWarning, match="no validation pair shows change"):
        train(small_recipe("trainer.epochs=1"), data, tmp_path / "run", device="cpu")


def test_sources_are_mixed_by_their_repeats_and_validated_on_the_first(tiny_data, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(tiny_data, tmp_path / "data" / name)
    sources = [
        {"folder": "one", "exclude": "*_0000"},
        {"folder": "two", "repeats": 3, "zoom": [0.5, 1]},
    ]
    recipe = small_recipe(f"data.sources={json.dumps(sources)}", "trainer.epochs=1")
    notes = []
    result = train(recipe, tmp_path / "data", tmp_path / "run", device="cpu", on_note=notes.append)
    assert notes[0].startswith("train and val: 7 pairs, labels stored as 0/255 + 8 pairs")
    header = read_header(result.best)
    assert header.training_data["pairs"] == 15
    assert header.training_data["name"] == "one + two"
    assert (header.scores[0]["data_name"], header.scores[0]["pairs"]) == ("one", 5)
    assert sum(header.scores[0][kind] for kind in ("true_positive", "true_negative",
               "false_positive", "false_negative")) == 5 * 64 * 64  # fmt: skip
    with pytest.raises(DataError, match="left out"):
        train(small_recipe('data.sources=[{"folder": "one", "exclude": "*"}]'),
              tmp_path / "data", tmp_path / "none", device="cpu")  # fmt: skip
    with pytest.raises(SettingError, match="smallest side comes first"):
        small_recipe('data.sources=[{"zoom": [2, 1]}]')


def save_teacher(path, logit):
    """A teacher to which every pixel is alike."""
    network = create_model("ctma-s", video_len=2)
    for name, weight in network.named_parameters():
        if ".out." in name:
            torch.nn.init.constant_(weight, logit if name.endswith("bias") else 0)
    save_model(path, network)
    return str(path)


def test_a_network_learns_from_its_teachers_by_their_shares(tiny_data, tmp_path):
    everything, nothing = (
        save_teacher(tmp_path / f"{logit}.safetensors", logit) for logit in (4, -4)
    )
    before, after = (Image.open(tiny_data / f"val/{date}/val_0000.png") for date in "AB")
    found = []
    for name, shares in (("much", (9, 1)), ("little", (1, 9))):
        checkpoints = dict(zip((everything, nothing), shares, strict=True))
        teachers = f"teacher.checkpoints={json.dumps(checkpoints)}"
        recipe = small_recipe("trainer.epochs=10", "optimizer.lr=0.01", teachers)
        result = train(recipe, tiny_data, tmp_path / name, device="cpu")
        latest = tmp_path / name / "latest.safetensors"
        found.append(predict(before, after, latest).probability.mean())
        assert read_header(result.best).teachers == {
            path: file_fingerprint(path) for path in checkpoints
        }
    assert found[0] > 2 * found[1]


def test_a_resume_by_other_teachers_is_refused(tiny_data, tmp_path):
    teacher = save_teacher(tmp_path / "teacher.safetensors", 4)
    checkpoints = f"teacher.checkpoints={json.dumps({teacher: 1})}"
    train(small_recipe("trainer.epochs=1", checkpoints), tiny_data, tmp_path / "run", device="cpu")
    longer = small_recipe("trainer.epochs=2", checkpoints)
    save_teacher(tmp_path / "teacher.safetensors", -4)
    with pytest.raises(SettingError, match="was trained with teacher"):
        train(longer, tiny_data, tmp_path / "run", resume=True, device="cpu")


@pytest.mark.parametrize(
    ("teacher", "expected"),
    [
        ({"nobody.safetensors": 1}, "nobody.safetensors: no such"),
        ({"ctma-lite": 0}, "greater than 0"),
        ({"ctma-lite": float("inf")}, "finite"),
        ({}, "at least 1"),
    ],
)
def test_teachers_that_cannot_teach_are_refused(tiny_data, tmp_path, teacher, expected):
    checkpoints = f"teacher.checkpoints={json.dumps(teacher)}"
    with pytest.raises(CtmaError, match=expected):
        train(small_recipe(checkpoints), tiny_data, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"bands": ("red", "green", "nir")}, r"other bands \(red, green, nir\)"),
        ({"ranges": (((0.0, 1.0),) * 3,) * 2}, "other ranges"),
        ({"ground_sample_distance": 1.0}, r"other metres a pixel \(1.0\)"),
    ],
)
def test_a_teacher_that_saw_other_images_is_refused(tiny_data, tmp_path, usage, expected):
    network = create_model("fc-ef")
    network.usage = network.usage.replace(**usage)
    path = tmp_path / "teacher.safetensors"
    save_model(path, network)
    checkpoints = f"teacher.checkpoints={json.dumps({str(path): 1})}"
    with pytest.raises(SettingError, match=expected):
        train(
            small_recipe(checkpoints, "data.ground_sample_distance=0.5"),
            tiny_data,
            tmp_path / "run",
            device="cpu",
        )
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def shipped_data(tiny_data, tmp_path_factory):
    """A folder laid out as the recipes of the shipped weights want it, some views jittered."""
    folder = tmp_path_factory.mktemp("shipped")
    for name in ("levir_cd_05m", "levir_cd_1m"):
        shutil.copytree(tiny_data, folder / name, ignore=shutil.ignore_patterns("train_000[4-9]*"))
    for path in sorted(folder.glob("levir_cd_05m/train/*/*_0001.png")):
        path.rename(path.with_name(f"j_{path.name}"))
    return folder


@pytest.mark.long
def test_the_recipes_of_the_shipped_weights_run_and_give_the_same_curve_again(
    shipped_data, tmp_path
):
    small = ["data.crop_size=64", "model.video_len=2", "trainer.epochs=1", "data.workers=0"]
    init = None
    for name, seed in (("ctma-s-start", 0), ("ctma-s-middle", 0), ("ctma-s", 0), ("ctma-s", 1)):
        recipe = load_recipe(f"shipped/{name}", [*small, f"seed={seed}"])
        output = tmp_path / f"{name}-{seed}"
        init = train(recipe, shipped_data, output, init=init, device="cpu").best
    recipe = load_recipe("shipped/ctma-s", [*small, "trainer.epochs=2", "seed=2"])
    for run in ("one", "two"):
        train(recipe, shipped_data, tmp_path / run, init=init, device="cpu")
    for metric in ("train_loss_epoch", "val_f1"):
        curves = [logged(tmp_path / run, metric) for run in ("one", "two")]
        assert len(curves[0]) == 2
        assert curves[0] == curves[1]
    weights = [load_model(tmp_path / run / "best.safetensors") for run in ("one", "two")]
    assert weights[0].usage.ground_sample_distance == 0.5
    for name, weight in weights[0].state_dict().items():
        assert torch.equal(weight, weights[1].state_dict()[name]), name
    full = load_recipe("shipped/ctma-resnet34", [*small, "data.batch_size=32"])
    grown = train(full, shipped_data, tmp_path / "full", init=init, device="cpu").best
    assert read_header(grown).network == "ctma"


@pytest.mark.long
def test_the_three_parts_of_the_weights_of_ctma_follow_each_other(shipped_data, tmp_path):
    init = tmp_path / "start.safetensors"
    script = ROOT / "benchmarks/start_ctma.py"
    subprocess.run([sys.executable, script, "ctma-s", "ctma-lite", "-o", init], check=True)
    small = ["data.crop_size=64", "data.batch_size=8", "model.video_len=2", "trainer.epochs=1"]
    small += ["data.workers=0", "data.draws=8", "data.sources=[{folder: levir_cd_05m}]"]
    for name in ("ctma-start", "ctma-middle", "ctma"):
        recipe = load_recipe(f"shipped/{name}", small)
        init = train(recipe, shipped_data, tmp_path / name, init=init, device="cpu").best
    header = read_header(init)
    assert (header.network, header.arguments["temporal_width"]) == ("ctma", 64)
    assert header.arguments["spatial_widths"] == [32, 64, 128]


def test_a_resume_where_other_things_compute_is_refused(run, tiny_data, tmp_path, monkeypatch):
    folder = shutil.copytree(run[0], tmp_path / "run")
    settings = ("trainer.epochs=4", "schedule.step_size=1", "schedule.gamma=0.5")
    recipe = small_recipe(*settings)
    monkeypatch.setattr("torch.__version__", "1.0")
    with pytest.raises(SettingError, match=r"was trained with torch .*, not 1\.0; .*`init`"):
        train(recipe, tiny_data, folder, device="cpu", resume=True)
    with pytest.raises(
        SettingError, match=r"was trained with trainer\.precision float32, not bf16"
    ):
        train(recipe, tiny_data, folder, device="cpu", resume=True, precision="bf16")
    # Former versions of ctma did not say what computed; their runs can still be resumed.
    content = torch.load(folder / "latest.ckpt", weights_only=True)
    del content["callbacks"]["CheckpointKeeper"]["computing"]
    torch.save(content, folder / "latest.ckpt")
    train(recipe, tiny_data, folder, device="cpu", resume=True)
    assert len(logged(folder, "val_f1")) == 4


# Logs


def test_one_table_holds_all_epochs_also_after_a_resume(run, tiny_data, tmp_path):
    folder = shutil.copytree(run[0], tmp_path / "run")
    former = (folder / "logs/metrics.csv").read_text().splitlines()
    recipe = small_recipe("trainer.epochs=4", "schedule.step_size=1", "schedule.gamma=0.5")
    train(recipe, tiny_data, folder, device="cpu", resume=True)
    lines = (folder / "logs/metrics.csv").read_text().splitlines()
    assert lines[: len(former)] == former
    assert [epoch for epoch, _ in logged(folder, "val_f1")] == [1, 2, 3, 4]
    assert len(logged(folder, "val_loss")) == 4
    rates = [float(rate) for rate in logged(folder, "lr").values()]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(2e-3)
    assert not list(folder.glob("logs/version_*"))


def test_tensorboard_shows_curves_settings_and_pictures(run):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    events = event_accumulator.EventAccumulator(str(run[0] / "logs"))
    events.Reload()
    tags = events.Tags()
    assert {"val_f1", "val_loss", "lr", "train_loss_step"} <= set(tags["scalars"])
    assert len(events.Images(tags["images"][0])) == 3
    assert "ctma-s" in (run[0] / "logs/hparams.yaml").read_text()


def test_runs_checkpoints_and_score_files_are_put_side_by_side(run, tiny_data, tmp_path, ctma):
    best = run[0] / "best.safetensors"
    scores = tmp_path / "scores.json"
    ctma("eval", best, "--data", tiny_data, "--split", "val", "-o", scores)
    shown = ctma("compare", run[0], best, scores, "-o", tmp_path / "curves.png")
    assert shown.stdout.count("val") >= 3
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    assert shown.stderr == ""
    records = json.loads(ctma("compare", run[0], scores, "--json").stdout)
    assert records[0]["f1"] == records[1]["f1"]
    assert records[0]["epoch"] == run[1].epoch
    other = tmp_path / "test.json"
    ctma("eval", best, "--data", tiny_data, "--split", "test", "-o", other)
    assert "differ in split" in ctma("compare", scores, other).stderr
    refused(ctma, "no run's folder", "compare", tmp_path)
    refused(ctma, "no folder of a run", "compare", scores, "-o", tmp_path / "c.png")


def test_a_learning_rate_falls_where_the_score_stands_still(tiny_data, tmp_path):
    data = without_change(tiny_data, tmp_path / "data")
    settings = ["trainer.epochs=5", "schedule.name=plateau", "schedule.step_size=2"]
    recipe = small_recipe(*settings, "schedule.gamma=0.5", "optimizer.lr=0.001")
    train(recipe, data, tmp_path / "run", device="cpu")
    rates = {epoch: float(rate) for (epoch, _), rate in logged(tmp_path / "run", "lr").items()}
    expected = [0.001, 0.001, 0.001, 0.0005, 0.0005]
    assert [rates[epoch] for epoch in range(1, 6)] == pytest.approx(expected)


def test_a_backbone_may_learn_at_a_rate_of_its_own(tiny_data, tmp_path):
    settings = [
        *SMALL,
        "trainer.epochs=1",
        "model.pretrained=false",
        "trainer.precision=bf16",
    ]
    recipe = load_recipe("levir-cd/ctma-lite", [*settings, "optimizer.backbone=0.5"])
    train(recipe, tiny_data, tmp_path, device="cpu")
    (state,) = torch.load(tmp_path / "latest.ckpt", weights_only=True)["optimizer_states"]
    own, backbone = state["param_groups"]
    assert backbone["lr"] == 0.5 * own["lr"]
    shares = [len(group["params"]) for group in (own, backbone)]
    assert min(shares) > 20
    assert sum(shares) == sum(1 for _ in load_model(tmp_path).parameters())


def test_a_group_of_processes_that_is_there_before_stays(tiny_data, tmp_path):
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        train(small_recipe("trainer.epochs=1"), tiny_data, tmp_path / "run", device="cpu")
        assert torch.distributed.is_initialized()
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("resume", [True, False])
def test_weights_are_not_lost_where_the_training_state_is_gone(tiny_data, tmp_path, resume):
    train(small_recipe("trainer.epochs=1"), tiny_data, tmp_path / "run", device="cpu")
    before = (tmp_path / "run/best.safetensors").read_bytes()
    (tmp_path / "run/latest.ckpt").unlink()
    expected = r"latest\.ckpt is gone" if resume else "holds a training already"
    with pytest.raises(OutputError, match=expected):
        train(small_recipe(), tiny_data, tmp_path / "run", device="cpu", resume=resume)
    assert (tmp_path / "run/best.safetensors").read_bytes() == before


@pytest.mark.parametrize("network", ["fc-ef", pytest.param("dsifn", marks=pytest.mark.long)])
def test_resumed_with_dropout_the_weights_are_those_of_the_uninterrupted_training(
    tiny_data, tmp_path, network
):
    changes = [change for change in SMALL if not change.startswith("model.")]
    more = ["model.pretrained=false"] if network == "dsifn" else []
    recipes = [
        load_recipe(f"levir-cd/{network}", [*changes, *more, f"trainer.epochs={epochs}"])
        for epochs in (1, 2)
    ]
    assert model_arguments(network)["dropout"] > 0
    train(recipes[1], tiny_data, tmp_path / "whole", device="cpu")
    for recipe in recipes:
        train(recipe, tiny_data, tmp_path / "parts", device="cpu", resume=True)
    whole, parts = (
        load_model(tmp_path / name / "latest.safetensors").state_dict()
        for name in ("whole", "parts")
    )
    assert all(torch.equal(weight, parts[name]) for name, weight in whole.items())

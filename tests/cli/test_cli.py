"""The command line, as a user meets it: results, and one clear line for every mistake."""

import json
import os
import re
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

import ctma as package
from ctma import create_model, read_header, save_model
from ctma.cli.app import run_guarded
from ctma.inference import images
from support import ROOT
from support.commands import refused
from support.images import random_image, read, write_pair
from support.weights import rewrite

SETTINGS = [
    part
    for setting in (
        "model.video_len=2", "data.repeats=1", "data.crop_size=64", "data.workers=0",
        "data.batch_size=4", "trainer.epochs=1",
    )
    for part in ("--set", setting)
]  # fmt: skip


@pytest.mark.slow
def test_train_then_eval_then_predict(ctma, tiny_data, tmp_path, pair):
    run = tmp_path / "run"
    trained = ctma("train", "levir-cd/ctma-s", "--data", tiny_data, "-o", run, *SETTINGS,
                   "--device", "cpu")  # fmt: skip
    assert "best.safetensors" in trained.stdout

    scored = ctma("eval", run / "best.safetensors", "--data", tiny_data, "--split", "test",
                  "--protocol", "sliding", "--threshold", "0.4", "--save-masks", tmp_path / "masks",
                  "--figures", tmp_path / "figures")  # fmt: skip
    record = json.loads((run / "scores-best-tiny-test-sliding-0.4.json").read_text())
    assert {"split", "protocol", "threshold", "checkpoint", "data", "f1"} <= record.keys()
    assert (record["split"], record["protocol"], record["threshold"]) == ("test", "sliding", 0.4)
    assert record["arithmetic"] == "float32"
    for text in ("test", "sliding", "0.4", "float32", record["checkpoint"], record["data"]):
        assert text in scored.stdout
    masks = sorted((tmp_path / "masks").iterdir())
    assert [mask.name for mask in masks] == [f"test_000{n}.png" for n in range(4)]
    assert set(np.unique(read(masks[0]))) <= {0, 255}
    assert Image.open(tmp_path / "figures/tiny-test-sliding-0.4.png").width > 500

    ctma("predict", *pair, "--checkpoint", run / "best.safetensors", "-o", tmp_path / "out")
    assert read(tmp_path / "out/mask/test_0000.png").shape == (64, 64)


def test_predict_takes_two_folders_and_speaks_json(ctma, tiny_data, tiny_model, tmp_path):
    folders = tiny_data / "test/A", tiny_data / "test/B"
    result = ctma(
        "predict", *folders, "-c", tiny_model, "-o", tmp_path, "--threshold", "0", "--json"
    )
    entries = json.loads(result.stdout)
    assert [entry["name"] for entry in entries] == [f"test_000{n}" for n in range(4)]
    for entry in entries:
        assert read(entry["mask"]).min() == 255
        assert entry["changed_share"] == 1
        assert read(entry["probability"]).shape == (64, 64)


@pytest.mark.slow
def test_a_told_ground_sample_distance_is_used_or_refused(ctma, tiny_data, tiny_model, tmp_path):
    pair = tiny_data / "test/A/test_0000.png", tiny_data / "test/B/test_0000.png"
    coarse = ctma("predict", *pair, "-o", tmp_path / "coarse", "--gsd", 5).stderr
    assert "pixels of 5 m, but the network was trained at 0.5 m" in coarse
    maps = []
    runs = (
        ("plain", [], "metres a pixel not known: 0.5 is assumed"),
        ("told", ["--gsd", 1], "pixels of 1 m: seen enlarged 2 times"),
    )
    for name, options, said in runs:
        assert said in ctma("predict", *pair, "-o", tmp_path / name, *options).stdout
        maps.append(read(tmp_path / name / "probability/test_0000.png"))
    assert maps[0].shape == maps[1].shape
    assert (maps[0] != maps[1]).any()
    refused(ctma, ("--gsd 1", "ctma convert"), "predict", *pair, "-c", tiny_model,
            "-o", tmp_path / "none", "--gsd", 1)  # fmt: skip


@pytest.mark.parametrize("network", ["ctma-s", "ctma-lite"])
def test_explain_draws_both_sheets(ctma, tiny_data, network, tmp_path, pair):
    label = tiny_data / "test/label/test_0000.png"
    model = tmp_path / "model.safetensors"
    save_model(model, create_model(network, video_len=2))
    ctma("explain", *pair, "-c", model, "-o", tmp_path / "sheet.png", "--label", label)
    for name in ("sheet.png", "sheet.features.png"):
        assert read(tmp_path / name).std() > 10


@pytest.mark.slow
def test_explain_shows_what_a_network_sees_at_a_told_distance(ctma, tmp_path, pair):
    sheets = []
    for name, options in (("plain", []), ("told", ["--gsd", 1]), ("coarse", ["--gsd", 5])):
        result = ctma("explain", *pair, "-c", "ctma-s", "-o", tmp_path / f"{name}.png", *options)
        assert ("expect little" in result.stderr) == (name == "coarse")
        sheets.append(read(tmp_path / f"{name}.features.png"))
    assert (sheets[0] != sheets[1]).any()
    assert (sheets[0] == sheets[2]).all()


@pytest.mark.slow
def test_convert_and_info(ctma, golden_file, tmp_path):
    ctma("convert", golden_file, tmp_path / "m.safetensors", "--fusion", "0.67", "--gsd", "0.5")
    described = json.loads(ctma("info", tmp_path / "m.safetensors", "--json").stdout)
    assert described["network"] == "ctma"
    assert described["parameters"] == 30_475_203
    assert described["arguments"] == {"fusion": 0.67}
    assert described["ground_sample_distance"] == 0.5
    assert "network: ctma" in ctma("info", tmp_path / "m.safetensors").stdout
    ctma("convert", tmp_path / "m.safetensors", tmp_path / "half.safetensors", "--half")
    half = json.loads(ctma("info", tmp_path / "half.safetensors", "--json").stdout)
    assert half["bytes"] <= 65e6
    assert half["arguments"] == {"fusion": 0.67}
    ctma("convert", tmp_path / "m.safetensors", tmp_path / "back.pth")
    assert "network: ctma" in ctma("info", tmp_path / "back.pth").stdout


def test_check_says_what_it_finds(ctma, tiny_data, tmp_path):
    assert "nothing found" in ctma("check", tiny_data).stdout
    data = shutil.copytree(tiny_data, tmp_path / "data")
    (data / "val/B/val_0002.png").unlink()
    result = ctma("check", data, code=1)
    assert "missing partner" in result.stdout
    assert "val/val_0002" in result.stdout


def test_prepare_cuts_levir_cd(ctma, tmp_path):
    for split in ("train", "val", "test"):
        images = (
            random_image(1, 256),
            random_image(2, 256),
            random_image(3, 256)[..., 0] // 128 * 255,
        )
        write_pair(tmp_path / "raw" / split, f"{split}_1", *images)
    assert (
        "1 train, 1 val, 1 test"
        in ctma("prepare", "levir-cd", tmp_path / "raw", tmp_path / "cut").stdout
    )
    assert (tmp_path / "cut/train/A/train_1/train_1_0.png").exists()


# Nothing lost


def test_an_input_is_never_replaced(ctma, tiny_model, tmp_path, pair):
    folder = tmp_path / "mask"
    folder.mkdir()
    inputs = [
        shutil.copy(path, folder / f"{name}.png") for path, name in zip(pair, "ab", strict=True)
    ]
    kept = [path.read_bytes() for path in inputs]
    command = ("predict", *inputs, "-c", tiny_model, "-o", tmp_path, "--overwrite")
    refused(ctma, ("a.png", "is an input and would be replaced"), *command)
    (tmp_path / "out/mask").mkdir(parents=True)
    os.link(inputs[0], tmp_path / "out/mask/a.png")
    command = ("predict", *inputs, "-c", tiny_model, "-o", tmp_path / "out", "--overwrite")
    refused(ctma, "is an input and would be replaced", *command)
    assert [path.read_bytes() for path in inputs] == kept


def test_what_was_made_of_another_pair_is_not_replaced_silently(ctma, tiny_model, tmp_path, pair):
    before, after = pair
    command = ("-c", tiny_model, "-o", tmp_path / "out")
    for _ in range(2):  # the same pair may be predicted again
        ctma("predict", before, after, *command)
    made = (tmp_path / "out/mask/test_0000.png").read_bytes()
    expected = ("mask/test_0000.png", "not made from", "--overwrite")
    refused(ctma, expected, "predict", before, before, *command)
    assert (tmp_path / "out/mask/test_0000.png").read_bytes() == made
    ctma("predict", before, before, *command, "--overwrite")
    assert (tmp_path / "out/mask/test_0000.png").read_bytes() != made


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "gbk"])
def test_names_and_consoles_of_any_encoding_are_taken(ctma_alone, tiny_model, tmp_path, encoding):
    before, after = (
        os.fsencode(tmp_path) + b"/" + name for name in (b"a\xff\xe9.png", b"b\xff.png")
    )
    for number, path in enumerate((before, after)):
        Image.fromarray(random_image(number)).save(os.fsdecode(path))
    console = {"PYTHONIOENCODING": encoding}
    command = ("predict", os.fsdecode(before), os.fsdecode(after), "-c", tiny_model)
    ctma_alone(*command, "-o", tmp_path / "out", env=console)
    assert len(list((tmp_path / "out/mask").iterdir())) == 1
    ctma_alone("compare", "ctma-s", env=console)
    os.rename(before, before[:-3] + b"tif")
    command = ("predict", os.fsdecode(before[:-3] + b"tif"), *command[2:])
    refused(ctma_alone, "is no UTF-8", *command, "-o", tmp_path / "map", env=console)


def test_every_json_field_is_documented(ctma, tiny_model, tiny_data, pair, tmp_path):
    documented = set(re.findall(r"`([\w.]+)`", (ROOT / "docs/reference/json.md").read_text()))
    score = ctma("eval", tiny_model, "--data", tiny_data, "-o", tmp_path / "s.json", "--json")
    images = ctma("predict", *pair, "-c", tiny_model, "-o", tmp_path / "out", "--json")
    check = ctma("check", tiny_data, "--json")
    info = ctma("info", "ctma-s", "--json")
    printed = [json.loads(result.stdout) for result in (score, images, check, info)]
    for content in (printed[0], *printed[1], printed[2], printed[3]):
        assert content.keys() - documented == set()


def test_tables_are_not_cut_where_they_are_piped(ctma, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert "precision" in ctma("compare", "ctma-s").stdout
    assert "…" not in ctma("compare", "ctma-s").stdout


def test_an_input_that_vanishes_in_mid_run_is_one_line(ctma, tiny_model, tmp_path, monkeypatch):
    for folder in ("before", "after"):
        (tmp_path / folder).mkdir()
        for number in range(2):
            image = Image.fromarray(random_image(number + len(folder)))
            image.save(tmp_path / folder / f"{number}.png")
    take = images.predict

    def lose_the_next(*arguments, **options):
        (tmp_path / "after/1.png").unlink(missing_ok=True)
        return take(*arguments, **options)

    monkeypatch.setattr(images, "predict", lose_the_next)
    command = ("predict", tmp_path / "before", tmp_path / "after", "-c", tiny_model)
    refused(ctma, "1.png: no such file", *command, "-o", tmp_path / "out")


def test_masks_and_sheets_never_replace_what_they_are_made_of(
    ctma, tiny_model, tiny_data, tmp_path, pair
):
    data = shutil.copytree(tiny_data, tmp_path / "tiny")
    for folder in ("label", "B"):
        command = ("eval", tiny_model, "--data", data, "--split", "val", "-o", tmp_path / "s.json")
        refused(ctma, "is an input", *command, "--save-masks", data / "val" / folder)
    before, after, named = (tmp_path / f"{name}.png" for name in ("a", "b", "s.features"))
    for path in (before, after, named):
        shutil.copy(pair[0], path)
    kept = before.read_bytes()
    for second, output in ((after, before), (after, after), (named, tmp_path / "s.png")):
        refused(ctma, "is an input", "explain", before, second, "-c", tiny_model, "-o", output)
    assert {path.read_bytes() for path in (before, after, named)} == {kept}
    refused(ctma, "an argument is empty", "explain", before, after, "-c", tiny_model, "-o", "")


@pytest.mark.slow
def test_scores_of_another_checkpoint_or_other_data_are_not_replaced(
    ctma, tiny_model, tiny_data, tmp_path
):
    one, two = (shutil.copy(tiny_model, tmp_path / f"{name}.safetensors") for name in "ab")
    for model in (one, two, one):
        ctma("eval", model, "--data", tiny_data, "--split", "val")
    names = {path.name for path in tmp_path.glob("scores-*")}
    assert names == {f"scores-{name}-tiny-val-crops.json" for name in "ab"}
    other = shutil.copytree(tiny_data, tmp_path / "elsewhere/tiny")
    shutil.copy(other / "val/A/val_0001.png", other / "val/A/val_0000.png")
    command = ("eval", one, "--data", other, "--split", "val")
    refused(ctma, ("scores-a-tiny-val-crops.json", "holds scores already"), *command)
    ctma(*command, "-o", tmp_path / "mine.json")
    refused(ctma, ("mine.json", "--overwrite"), *command, "-o", tmp_path / "mine.json")
    ctma(*command, "-o", tmp_path / "mine.json", "--overwrite")


# Mistakes: one line, exit code 2, no traceback, nothing half-written


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("train", "levir/ctma"), ("unknown recipe", "levir-cd/ctma")),
        (("train", "levir-cd/ctma-s", "--set", "optimizer.lrr=1"), ("unknown key", "optimizer.lr")),
        (("train", "levir-cd/ctma-s", "--set", "optimizer.lr=fast"), "optimizer.lr"),
        (("train", "levir-cd/ctma-s", "--set", "model.name=ctmo"), ("unknown network", "ctma")),
        (
            ("train", "levir-cd/ctma-s", "--set", "data.validation_split=test"),
            "never picked on test",
        ),
        (("train", "levir-cd/ctma-s", "--set", "nonsense"), "key=value"),
    ],
)
def test_train_refuses_a_bad_recipe(ctma, tiny_data, tmp_path, arguments, expected):
    refused(ctma, expected, *arguments, "--data", tiny_data, "-o", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_train_refuses_bad_data(ctma, tiny_data, tmp_path):
    def train(data, expected, workers=0):
        refused(ctma, expected, "train", "levir-cd/ctma-s", "--data", data, "-o", tmp_path / "run",
                "--device", "cpu", *SETTINGS, "--set", f"data.workers={workers}")  # fmt: skip

    train(tmp_path / "nowhere", "no such data folder")
    (tmp_path / "empty").mkdir()
    train(tmp_path / "empty", "no split 'train'")
    data = shutil.copytree(tiny_data, tmp_path / "data")
    (data / "train/label/train_0003.png").unlink()
    train(data, ("train_0003", "missing"))
    shutil.copy(tiny_data / "train/label/train_0003.png", data / "train/label")
    image = data / "train/A/train_0005.png"
    image.write_bytes(image.read_bytes()[:500])
    train(data, ("train_0005.png", "cannot be read"))
    Image.fromarray(random_image(1, 72)).save(image)
    train(data, ("72 x 72", "64 x 64"), workers=1)


def test_predict_refuses_bad_inputs(ctma, tiny_data, tiny_model, tmp_path, pair):
    def predict(before, after, expected, model=tiny_model, out=tmp_path / "out"):
        refused(ctma, expected, "predict", before, after, "-c", model, "-o", out)
        assert not out.exists() or not list(out.rglob("*"))

    broken = tmp_path / "broken.png"
    broken.write_bytes(pair[0].read_bytes()[:300])
    predict(broken, pair[1], ("broken.png", "cannot be read"))
    Image.fromarray(random_image(1, 70)).save(tmp_path / "large.png")
    predict(pair[0], tmp_path / "large.png", ("70 x 70", "64 x 64"))
    predict(pair[0], tmp_path / "absent.png", "no such file")
    predict(pair[0], tiny_data, "two images or two folders")
    (tmp_path / "empty").mkdir()
    predict(tmp_path / "empty", tmp_path / "empty", "no images")
    predict(*pair, "no such checkpoint", model=tmp_path / "absent.safetensors")
    predict(
        *pair,
        "not a whole safetensors file",
        model=shutil.copy(pair[0], tmp_path / "m.safetensors"),
    )


@pytest.mark.parametrize(
    "option", [["--bands", "3,2,1"], ["--min-area", "20"], ["--format", "gpkg"], ["--resume"]]
)
def test_options_for_rasters_are_refused_for_images(ctma, tiny_model, tmp_path, pair, option):
    out = tmp_path / "out"
    expected = (f"{option[0]} is for rasters", pair[0].name)
    refused(ctma, expected, "predict", *pair, "-c", tiny_model, "-o", out, *option)
    assert not out.exists()


def test_outputs_that_cannot_be_written_are_named(ctma, tiny_data, tiny_model, tmp_path, pair):
    (tmp_path / "file").write_text("in the way")
    blocked = tmp_path / "file" / "out"
    refused(ctma, ("cannot write", "file/out"), "predict", *pair, "-c", tiny_model, "-o", blocked)
    refused(
        ctma,
        "cannot write",
        "train",
        "levir-cd/ctma-s",
        "--data",
        tiny_data,
        "-o",
        blocked,
        *SETTINGS,
    )
    refused(ctma, "cannot write", "eval", tiny_model, "--data", tiny_data, "-o", blocked / "s.json")
    refused(ctma, "cannot write", "explain", *pair, "-c", tiny_model, "-o", blocked / "sheet.png")


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_nothing(ctma_alone, tiny_model, tmp_path, pair):
    # A limit on file size stands for a full disk: writing fails midway.
    script = tmp_path / "limited.py"
    script.write_text(
        "import resource, runpy, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "runpy.run_module('ctma', run_name='__main__')\n"
    )
    command = ("predict", *pair, "-c", tiny_model, "-o", tmp_path / "out")
    options = {"module": "limited", "env": {"PYTHONPATH": str(tmp_path)}}
    line = refused(ctma_alone, "cannot write", *command, **options)
    assert "File too large" in line
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_a_checkpoint_of_another_network_is_refused(ctma, tiny_model, tmp_path, pair):
    header = read_header(tiny_model).model_copy(update={"network": "ctma"}).model_dump_json()
    other = rewrite(tiny_model, tmp_path / "other.safetensors", metadata={"ctma": header})
    refused(ctma, "weights do not fit", "predict", *pair, "-c", other, "-o", tmp_path / "out")


@pytest.mark.slow
def test_weights_on_a_full_disk_are_one_line(ctma_alone, golden_file, tmp_path):
    script = tmp_path / "limited.py"
    script.write_text(
        "import resource, runpy, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9999, 9999))\n"
        "runpy.run_module('ctma', run_name='__main__')\n"
    )
    refused(ctma_alone, "cannot write", "convert", golden_file, tmp_path / "out/m.safetensors",
            "--fusion", "0.5", module="limited", env={"PYTHONPATH": str(tmp_path)})  # fmt: skip
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", ["sheet", "sheet.xyz"])
def test_explain_refuses_a_name_without_a_format(ctma, tiny_model, tmp_path, pair, name):
    refused(ctma, "ends in .png", "explain", *pair, "-c", tiny_model, "-o", tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_original_weights_predict_with_their_fusion(ctma, golden_file, tmp_path, pair):
    for fusion in ("0", "1"):
        weights = tmp_path / f"{fusion}.safetensors"
        ctma("convert", golden_file, weights, "--fusion", fusion, "--video-len", "2")
        ctma("predict", *pair, "-c", weights, "-o", tmp_path / fusion)
    said = ctma("predict", *pair, "-c", golden_file, "-o", tmp_path / "plain").stderr
    assert "does not say --fusion, and the default is taken" in said
    assert "ctma convert writes" in said
    masks = [read(tmp_path / fusion / "probability/test_0000.png") for fusion in ("0", "1")]
    assert (masks[0] != masks[1]).any()


def throw(error):
    raise error


def caused(error, cause):
    error.__cause__ = cause
    return error


def test_errors_that_go_round_in_a_circle_end_the_command():
    error = caused(RuntimeError("first"), caused(RuntimeError("second"), None))
    error.__cause__.__cause__ = error
    with pytest.raises(RuntimeError, match="first"):
        run_guarded(lambda: throw(error), debug=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "end", [KeyboardInterrupt(), SystemExit(130), caused(SystemError(), KeyboardInterrupt())]
)
def test_ctrl_c_ends_with_130_and_a_line_on_what_goes_on(capsys, end):
    with pytest.raises(SystemExit) as found:
        run_guarded(lambda: throw(end), debug=False)
    assert found.value.code == 130
    assert "interrupted; trainings and maps go on with --resume" in capsys.readouterr().err


def test_debug_shows_the_traceback(ctma_alone, tmp_path):
    result = ctma_alone("info", tmp_path / "absent.safetensors", "--debug", code=1)
    assert "Traceback" in result.stderr


def test_the_readme_names_every_command_that_the_help_lists(ctma):
    listed = set(re.findall(r"^│ (\w+)  ", ctma("--help").stdout.partition("Commands")[2], re.M))
    assert len(listed) == 21
    table = (ROOT / "README.md").read_text().partition("## Commands")[2].partition("## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(?:ctma )?(\w+)`", " ".join(cells))) == listed


def test_the_version_is_the_packages(ctma):
    assert ctma("--version").stdout == f"ctma {package.__version__}\n"


def test_recipes_are_listed_and_printed_whole(ctma):
    assert "whu-cd/ctma-s" in ctma("recipes").stdout.split()
    printed = yaml.safe_load(ctma("recipes", "levir-cd/ctma").stdout)
    assert printed == json.loads(ctma("recipes", "levir-cd/ctma", "--json").stdout)
    assert printed["model"] == {
        "name": "ctma", "video_len": 8, "pretrained": True, "fusion": 0.67,
    }  # fmt: skip
    assert (printed["data"]["repeats"], printed["data"]["focus"]) == (2, 0.0)
    refused(ctma, ("unknown recipe", "levir-cd/ctma"), "recipes", "levir-cd/ctmo")


def test_a_device_that_is_not_here_is_refused(ctma, tiny_data, tmp_path):
    command = ("train", "levir-cd/ctma-s", "--data", tiny_data, "-o", tmp_path / "run")
    refused(ctma, "--device 'cuda", *command, "--device", "cuda:7")
    assert not (tmp_path / "run").exists()


def test_an_output_within_the_inputs_is_refused_before_the_work(
    ctma, tiny_data, tiny_model, tmp_path
):
    shutil.copytree(tiny_data / "test", tmp_path / "test")
    folders = [tmp_path / "test" / date for date in "AB"]
    for output in (folders[0], folders[1] / "out"):
        run = ctma("predict", *folders, "-c", tiny_model, "-o", output, code=2)
        assert "which is read; name another folder" in run.stderr
    (tmp_path / "file").touch()
    run = ctma("predict", *folders, "-c", tiny_model, "-o", tmp_path / "file", code=2)
    assert "is a file; name a folder" in run.stderr

"""The released implementation's command lines, word for word, from ``src``."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ctma import load_model
from ctma.compat.command import main
from ctma.compat.configuration import load_config, to_recipe
from ctma.compat.methods import METHODS
from ctma.data.synthetic import write_synthetic
from ctma.errors import SettingError, UnknownNameError
from ctma.training.recipes import load_recipe
from support import ROOT

DATA = {"svcd": "svcd", "levircd": "levir-cd", "whu": "whu-cd"}
CONFIGURATIONS = sorted(
    path for folder in DATA for path in (ROOT / "configs" / folder).glob("config_*_*.yaml")
)


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_the_configurations_are_the_published_recipes(path):
    config = load_config(path)
    found = to_recipe(config)
    published = load_recipe(f"{DATA[path.parent.name]}/{METHODS[config.model].network}")
    for part in ("optimizer", "schedule", "loss", "trainer"):
        assert getattr(found, part) == getattr(published, part), part
    for key in ("repeats", "batch_size", "crop_size", "augmentation"):
        assert getattr(found.data, key) == getattr(published.data, key), key
    for key in {"video_len", "fusion", "pretrained"} & published.arguments.keys():
        assert found.arguments[key] == published.arguments[key], key


def test_every_method_has_its_configurations():
    named = {path.stem.partition("_")[2] for path in CONFIGURATIONS}
    assert load_config(ROOT / "configs/svcd/config_svcd_cdp_unet.yaml").tag == "cdp_unet"
    everywhere = {"p2v", "unet", "siamunet-conc", "siamunet-diff", "cdnet", "lunet", "snunet"}
    expected = {f"{data}_{method}" for data in DATA for method in {*everywhere, "stanet", "ifn"}}
    assert named == expected | {"svcd_bit", "svcd_dsamnet", "svcd_cdp_unet"}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"model": "SNUnet"}, r"SNUnet.*SNUNet"),
        ({"criterion": "BC"}, "criterion: BC, that of P2V is WBCE"),
        ({"model": "IFN", "criterion": "", "mu": [0, 0, 0]}, "only ImageNet's"),
        ({"model": "BIT", "criterion": "", "bit_model": {"enc_depth": 2}}, r"bit_model\.enc_depth"),
    ],
)
def test_what_the_released_code_alone_can_do_is_refused(overrides, expected):
    path = ROOT / "configs/svcd/config_svcd_p2v.yaml"
    with pytest.raises((SettingError, UnknownNameError), match=expected):
        load_config(path, {"out_type": ""} | overrides)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("method", ["siamunet-diff", "stanet"])
def test_other_methods_train_from_their_configurations_too(place, method):
    line = [sys.executable, "train.py", "train", "--pretrained", "false", "--num_workers", "0"]
    line += ["--exp_config", f"../configs/svcd/config_svcd_{method}.yaml", "--device", "cpu"]
    line += ["--repeats", "1", "--crop_size", "64", "--num_epochs", "1"]
    result = subprocess.run(
        line, cwd=place / "src", env=environment(place), capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stdout + result.stderr
    network = load_model(place / f"exp/svcd/weights/model_best_{method}.pth")
    assert network.name == {"siamunet-diff": "fc-siam-diff"}.get(method, method)


def test_keys_mean_what_they_mean_there(tmp_path):
    (tmp_path / "config_levircd.yaml").write_text(
        "dataset: LEVIR\nlr: 0.5\nexp_dir: ../exp/levir\n"
    )
    path = tmp_path / "config_levircd_p2v.yaml"
    path.write_text("lr: 0.25\nschedulers: [{name: StepLR, step_size: 3, gamma: 0.5}]\n")
    config = load_config(path)
    assert (config.lr, config.tag) == (0.25, "p2v")
    assert config.output("model_best") == Path("../exp/levir/weights/model_best_p2v.pth")
    assert load_config(path, {"lr": 1.0}).lr == 1.0
    assert load_config(path, {"suffix": "x"}).output("a").name == "a_x.pth"
    assert load_config(path, {"suffix_off": True}).output("a").name == "a.pth"
    assert to_recipe(load_config(path, {"sched_on": False})).schedule.name == "constant"
    with pytest.raises(SettingError, match="dataset"):
        load_config(path, {"inherit_off": True})
    with pytest.raises(UnknownNameError, match=r"batchsize.*batch_size"):
        load_config(path, {"batchsize": 3})
    with pytest.raises(SettingError, match=r"p2v_model\.video_len"):
        load_config(path, {"p2v_model": {"video_len": "long"}})
    with pytest.raises(SettingError, match="sum to 1"):
        load_config(path, {"cmb_coeffs": [0.5, 0.6]})
    with pytest.raises(SettingError, match="weights: leave it out, the loss of IFN"):
        load_config(ROOT / "configs/svcd/config_svcd_ifn.yaml", {"weights": [0.1, 0.9]})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A checkout's configs and src/train.py in a folder of their own, with tiny data."""
    folder = tmp_path_factory.mktemp("original")
    (folder / "src").mkdir()
    (folder / "src/train.py").write_text((ROOT / "src/train.py").read_text())
    (folder / "configs").symlink_to(ROOT / "configs")
    write_synthetic(folder / "data/SVCD/Real/subset", {"train": 4, "val": 3, "test": 2}, size=64)
    return folder


def environment(place):
    """What a released command line finds."""
    return {
        "CTMA_DATA": str(place / "data"),
        "PATH": "/usr/bin",
        "COLUMNS": "200",
        "HOME": str(place),
        "OMP_NUM_THREADS": os.environ["OMP_NUM_THREADS"],
    }


def run(place, command, *options, code=0):
    """``python -W ignore train.py …`` with what makes it small."""
    line = [sys.executable, "-W", "ignore", "train.py", command]
    line += ["--exp_config", "../configs/svcd/config_svcd_p2v.yaml", *options]
    line += ["--pretrained", "false", "--num_workers", "0", "--device", "cpu"]
    line += ["--p2v_model", "{video_len: 2}", "--repeats", "1", "--crop_size", "64"]
    result = subprocess.run(
        line, cwd=place / "src", env=environment(place), capture_output=True, text=True, timeout=300
    )
    assert result.returncode == code, result.stdout + result.stderr
    return result


@pytest.mark.slow
@pytest.mark.long
def test_train_resume_and_eval(place):
    latest = "../exp/svcd/weights/checkpoint_latest_p2v.pth"
    weights = place / "exp/svcd/weights"

    first = run(place, "train", "--resume", latest, "--num_epochs", "1")
    assert "does not exist yet, starting a new training" in first.stderr
    content = torch.load(weights / "checkpoint_latest_p2v.pth", weights_only=True)
    assert content.keys() == {"epoch", "state_dict", "optimizer", "max_acc"}
    assert content["epoch"] == 0
    assert "encoder_v.stem.0.weight" in content["state_dict"]
    assert (weights / "model_best_p2v.pth").exists()

    run(place, "train", "--resume", latest, "--num_epochs", "2")
    resumed = torch.load(weights / "checkpoint_latest_p2v.pth", weights_only=True)
    assert resumed["epoch"] == 1
    steps = [state["optimizer"]["state"][0]["step"].item() for state in (content, resumed)]
    assert steps[1] == 2 * steps[0]

    best = "../exp/svcd/weights/model_best_p2v.pth"
    scored = run(place, "eval", "--resume", best, "--save_on", "--subset", "test")
    assert "test, sliding" in scored.stdout
    assert len(list((place / "exp/svcd/out").glob("*.png"))) == 2
    assert (place / "exp/svcd/scores-test-sliding_p2v.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["eval", "--resume", "../exp/absent.pth", "--subset", "test"], "no such checkpoint"),
        (["eval"], "name it as --resume"),
        (["train", "--dataset", "WHU"], "WHU: no such data folder; set CTMA_DATA"),
        (["train", "--pretrained", "absent.pth"], "--pretrained: no such file: absent.pth"),
        (["train", "--device", "cuda:9"], "--device 'cuda:9' is not here"),
    ],
    ids=["absent", "none", "data", "weights", "device"],
)
def test_mistakes_are_one_line_in_the_words_of_this_command_line(
    place, monkeypatch, capsys, arguments, expected
):
    monkeypatch.setenv("CTMA_DATA", str(place / "data"))
    monkeypatch.chdir(place / "src")
    config = ["--exp_config", "../configs/svcd/config_svcd_p2v.yaml"]
    monkeypatch.setattr("sys.argv", ["train.py", arguments[0], *config, *arguments[1:]])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("ctma: error: ")
    assert expected in line

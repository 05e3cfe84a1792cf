"""Networks and data readers of one's own, from outside the package."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib

import numpy as np
import pytest
import torch
from PIL import Image

import ctma
from ctma.data.doctor import check as examine
from ctma.data.readers import find_pairs
from ctma.errors import DataError, SettingError, UnknownNameError
from support import ROOT
from support.commands import run_alone
from support.images import random_image

MODULE = '''
from pathlib import Path

import torch

import ctma


class Mine(ctma.ChangeNetwork):
    """One convolution over the difference."""

    def __init__(self, bands: int = 3, width: int = 4):
        super().__init__()
        self.bands = bands
        self.body = torch.nn.Conv2d(bands, width, 3, padding=1)
        self.head = torch.nn.Conv2d(width, 1, 1)

    def forward(self, before, after):
        return ctma.ChangeLogits(self.head(self.body(after - before).relu()))


def read_mine(folder: Path, split: str):
    """Pairs NAME_1.png, NAME_2.png and NAME_change.png in one folder a split."""
    if not (folder / "mine.txt").is_file():
        return None
    return [
        ctma.Pair(path.stem[:-2], path, path.with_name(f"{path.stem[:-2]}_2.png"),
                  path.with_name(f"{path.stem[:-2]}_change.png"))
        for path in (folder / split).glob("*_1.png")
    ]
'''


FAILING = '''

class Failing(ctma.ChangeNetwork):
    """Fails where it is trained."""

    def __init__(self, bands: int = 3):
        super().__init__()
        self.bands = bands
        self.body = torch.nn.Conv2d(bands, 1, 1)

    def forward(self, before, after):
        raise RuntimeError("says why\\nand more")
'''


LIST = "import ctma, sys; print(ctma.list_recipes(), 'torch' in sys.modules)"


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A module that is no part of ctma, with a network and a reader."""
    monkeypatch.setattr(
        "ctma.plugins._registered",
        {"ctma.networks": {}, "ctma.readers": {}, "ctma.engines": {}},
    )
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "outside.py").write_text(MODULE)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "outside", raising=False)
    return folder


def write_own_layout(folder, counts):
    (folder / "mine.txt").parent.mkdir(parents=True, exist_ok=True)
    (folder / "mine.txt").write_text("")
    for split, count in counts.items():
        (folder / split).mkdir()
        for number in range(count):
            seed = 10 * len(split) + number
            change = np.zeros((64, 64), np.uint8)
            change[:20, number : number + 20] = 255
            for name, image in (("1", random_image(seed)), ("2", random_image(seed + 100))):
                Image.fromarray(image).save(folder / split / f"p{number}_{name}.png")
            Image.fromarray(change).save(folder / split / f"p{number}_change.png")
    return folder


@pytest.mark.slow
def test_a_network_of_ones_own_trains_saves_loads_and_predicts(outside, tiny_data, tmp_path):
    import outside as own

    ctma.register("mine", network=own.Mine)
    assert "mine" in ctma.list_models()
    recipe = ctma.load_recipe(
        "levir-cd/mine",
        ["model.width=6", "data.crop_size=64", "data.workers=0", "trainer.epochs=1"],
    )
    assert recipe.schedule.step_size == 30, "the data part of the recipe holds for any network"
    with pytest.raises(UnknownNameError, match=r"model\.depth.*model\.width"):
        ctma.load_recipe("levir-cd/mine", ["model.depth=6"])
    faster = ctma.load_recipe("levir-cd/mine", ["optimizer.backbone=2", "data.workers=0"])
    with pytest.raises(SettingError, match=r"`optimizer\.backbone`: mine has none"):
        ctma.train(faster, tiny_data, tmp_path / "faster", device="cpu")
    trained = ctma.train(recipe, tiny_data, tmp_path / "run", device="cpu")
    network = ctma.load_model(trained.best)
    assert (network.name, network.arguments) == ("mine", {"width": 6})
    assert ctma.predict(random_image(1), random_image(2), network).mask.shape == (64, 64)
    result = ctma.evaluate(trained.best, tiny_data, "val")
    assert result.record.how.network == "mine"


def test_what_makes_no_network_is_refused(outside):
    ctma.register("layer", network=lambda width=3: torch.nn.Conv2d(width, width, 1))
    with pytest.raises(SettingError, match="makes a Conv2d"):
        ctma.create_model("layer")
    with pytest.raises(SettingError, match="one of `network`, `reader` and `engine`"):
        ctma.register("nothing")


@pytest.mark.parametrize("name", ["ctma-s", "layer"])
def test_a_name_that_is_taken_is_refused(outside, name):
    ctma.register("layer", network=torch.nn.Identity)
    ctma.register("layer", reader=lambda folder, split: None)
    with pytest.raises(SettingError, match=f"register '{name}': there is a network of that name"):
        ctma.register(name, network=torch.nn.Identity)


@pytest.mark.slow
def test_a_reader_of_ones_own_is_asked_first(outside, tmp_path):
    import outside as own

    data = write_own_layout(tmp_path / "data", {"train": 4, "val": 2, "test": 1})
    with pytest.raises(DataError, match="no pairs here"):
        examine(data)
    ctma.register("mine", reader=own.read_mine)
    assert examine(data).pairs == {"train": 4, "val": 2, "test": 1}
    settings = ["data.crop_size=64", "data.workers=0", "trainer.epochs=1", "data.repeats=1",
                "model.video_len=2"]  # fmt: skip
    trained = ctma.train(
        ctma.load_recipe("levir-cd/ctma-s", settings), data, tmp_path / "run", device="cpu"
    )
    assert ctma.read_header(trained.best).training_data["pairs"] == 4
    label = next((data / "val").glob("*_change.png"))
    label.unlink()
    with pytest.raises(DataError, match=f"{label.name} is missing, says the reader mine"):
        ctma.evaluate(trained.best, data, "val")
    for path in (data / "val").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="the reader mine finds no pair of the split val"):
        ctma.evaluate(trained.best, data, "val")


@pytest.mark.parametrize("name", ["", "a/b", "a b", None])
def test_a_name_is_a_word(outside, name):
    with pytest.raises(SettingError, match="a name is a word"):
        ctma.register(name, network=torch.nn.Identity)


def test_what_cannot_be_called_is_refused(outside):
    with pytest.raises(SettingError, match="give a class or a function"):
        ctma.register("three", reader=3)


def test_a_network_that_is_not_whole_is_named(outside):
    class Nameless(ctma.ChangeNetwork):
        def __init__(self, width: int = 3):
            super().__init__()

    class Double(ctma.ChangeNetwork):
        def __init__(self, bands: int = 3):
            super().__init__()
            self.bands = bands

        def forward(self, before, after):
            return ctma.ChangeLogits(before[:, :2])

    ctma.register("wanting", network=lambda width, bands=3: Double())
    with pytest.raises(SettingError, match="wanting: its argument width has no default"):
        ctma.create_model("wanting", width=3)
    ctma.register("nameless", network=Nameless)
    with pytest.raises(SettingError, match=r"nameless: sets no `self\.bands`"):
        ctma.create_model("nameless")
    with pytest.raises(SettingError, match=r"Double: gave fine logits of \(1, 2, 64, 64\)"):
        ctma.predict(random_image(1), random_image(2), Double())


def test_a_faulty_entry_point_is_one_line(outside):
    installed = outside / "faulty-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[ctma.readers]\nbad = faulty:read\n")
    (outside / "faulty.py").write_text("raise RuntimeError('no licence')")
    with pytest.raises(SettingError, match=r"bad = 'faulty:read'.* of faulty: .*no licence"):
        examine(outside)


def test_entry_points_of_an_installed_package_are_found(outside):
    installed = outside / "outside-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(
        "[ctma.networks]\nelsewhere = outside:Mine\n[ctma.readers]\nown = outside:read_mine\n"
    )
    assert "elsewhere" in ctma.list_models()
    assert ctma.create_model("elsewhere", width=2).head.in_channels == 2
    shown = subprocess.run(
        [sys.executable, "-c", LIST],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": str(outside)},
    ).stdout  # fmt: skip
    assert "levir-cd/elsewhere" in shown
    assert shown.strip().endswith("False"), "a network is loaded only when it is asked for"


def test_a_reader_that_gives_something_else_is_named(outside, tmp_path):
    (tmp_path / "data").mkdir()
    image = tmp_path / "a.png"
    Image.fromarray(random_image(1)).save(image)
    given = []
    ctma.register("odd", reader=lambda folder, split: given)
    for wrong in (("a", image), ctma.Pair("a", str(image), str(image), None)):
        given[:] = [wrong]
        with pytest.raises(DataError, match=r"the reader odd gave .* expected ctma\.Pair"):
            find_pairs(tmp_path / "data", "val")
    for name in ("../../a", "/a"):
        given[:] = [ctma.Pair(name, image, image, image)]
        with pytest.raises(DataError, match="twice, or no name"):
            find_pairs(tmp_path / "data", "val")
    given[:] = [ctma.Pair("a", image, image, image)] * 2
    with pytest.raises(DataError, match="twice, or no name"):
        find_pairs(tmp_path / "data", "val")


def test_arguments_of_ones_own_network_are_part_of_what_is_resumed(outside):
    class Mode(ctma.ChangeNetwork):
        def __init__(self, mode: str = "a", bands: int = 3):
            super().__init__()
            self.bands = bands
            self.mode = mode

    ctma.register("mode", network=Mode)
    prints = [ctma.create_model("mode", mode=mode).fingerprint() for mode in "aab"]
    assert prints[0] == prints[1] != prints[2]


def blocks(kind):
    """What stands in the documentation's blocks of one kind."""
    text = (ROOT / "docs/guides/extending.md").read_text()
    return re.findall(rf"^```{kind}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.long
def test_the_documentation_on_extending_is_true(tiny_data, tmp_path):
    installed = tmp_path / "site/mine-1.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Name: mine\nVersion: 1.0\n")
    (tmp_path / "site/mine.py").write_text("\n\n".join(blocks("python")))
    (points,) = map(tomllib.loads, blocks("toml"))
    lines = [
        f"[{group}]\n" + "\n".join(f"{name} = {where}" for name, where in own.items())
        for group, own in points["project"]["entry-points"].items()
    ]
    (installed / "entry_points.txt").write_text("\n".join(lines))
    (tmp_path / "mine.yaml").write_text(*blocks("yaml"))
    data = tmp_path / "DATA"
    for split in ("train", "val", "test"):
        (data / split).mkdir(parents=True)
        for path in (tiny_data / split / "A").iterdir():
            for folder, ending in (("A", "1"), ("B", "2"), ("label", "change")):
                source = tiny_data / split / folder / path.name
                shutil.copy(source, data / split / f"{path.stem}_{ending}.png")
    (data / "mine.txt").touch()
    env = {"PYTHONPATH": str(tmp_path / "site")}
    lines = [shlex.split(line) for line in "".join(blocks("sh")).splitlines()]
    for command, *arguments in lines:
        assert command == "ctma"
        run_alone(*arguments, cwd=tmp_path, env=env)
    assert "| mine |" in (tmp_path / "compared/table.md").read_text()
    with (tmp_path / "site/mine.py").open("a") as file:
        file.write(FAILING)
    (compared,) = (arguments for _, *arguments in lines if arguments[0] == "benchmark")
    changed = run_alone(*compared, "--resume", code=2, cwd=tmp_path, env=env)
    assert "mine: its code changed since" in changed.stderr
    with (installed / "entry_points.txt").open("a") as file:
        file.write("\n[ctma.networks]\nfailing = mine:Failing\n")
    line = ("benchmark", "--data", "DATA", "--models", "failing", "--budget", "4x4x64", "--json")
    failed = run_alone(*line, "-o", "failed", code=1, cwd=tmp_path, env=env)
    (note,) = json.loads(failed.stdout)["notes"]
    assert note == "failing-0 failed: RuntimeError: says why (exit code 1)"

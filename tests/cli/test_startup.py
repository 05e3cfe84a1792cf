"""What a command imports before it works, and what it says where a part is not installed."""

import json
import subprocess
import sys

import pytest

from ctma.data.synthetic import write_synthetic

HEAVY = ("torch", "timm", "torchvision", "lightning", "matplotlib")

SCRIPT = """
import json, sys
from ctma.cli.app import main
try:
    main(json.loads(sys.argv[1]))
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def imported(*arguments, script=SCRIPT):
    """Top-level packages that a process has imported after a command."""
    command = [sys.executable, "-c", script, json.dumps([*map(str, arguments)])]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(json.loads(found.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"], ["--version"], ["recipes"], ["recipes", "levir-cd/ctma"], ["info", "ctma-s"],
        ["train", "--help"], ["predict", "--help"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_command_that_needs_no_network_imports_none(arguments):
    assert imported(*arguments).isdisjoint(HEAVY)


def test_images_that_are_not_there_are_named_before_torch_loads(tmp_path):
    script = SCRIPT.replace("assert not end.code", "assert end.code == 2")
    missing = tmp_path / "missing.tif"
    assert imported("predict", missing, missing, "-o", tmp_path, script=script).isdisjoint(HEAVY)


@pytest.mark.slow
def test_the_doctor_and_preparation_import_no_network(tmp_path):
    data = tmp_path / "data"
    write_synthetic(data, {"train": 1, "val": 1, "test": 1}, size=256)
    assert imported("check", data).isdisjoint(HEAVY)
    assert imported("prepare", "levir-cd", data, tmp_path / "cut").isdisjoint(HEAVY)
    assert (tmp_path / "cut/train/A").is_dir()


@pytest.mark.slow
def test_predicting_images_imports_nothing_of_training_scenes_or_figures(pair, tmp_path):
    found = imported("predict", *pair, "-o", tmp_path)
    assert "torch" in found
    assert found.isdisjoint(
        ("lightning", "tensorboard", "imagehash", "geopandas", "pandas", "rasterio", "matplotlib",
         "torchmetrics")
    )  # fmt: skip


def test_naming_what_there_is_imports_nothing():
    script = "import json, sys, ctma; dir(ctma), ctma.CtmaError; print(json.dumps([*sys.modules]))"
    assert imported(script=script).isdisjoint((*HEAVY, "numpy", "pydantic"))


LEAN = """
import json, sys
for package in {absent!r}:
    sys.modules[package] = None
from ctma.cli.app import main
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
        print("code 0", file=sys.stderr)
    except SystemExit as end:
        print("code", end.code or 0, file=sys.stderr)
"""


@pytest.mark.slow
def test_packages_that_load_beside_the_plan_do_not_take_gdals_messages_away():
    """GDAL's messages go to the thread that loads pyogrio, and that thread is to write polygons."""
    script = """
import sys
from ctma.scene.packages import load_packages
load_packages(("openvino",), picture=True)
print(*sorted({"geopandas", "matplotlib", "openvino", "pyogrio"} & sys.modules.keys()))
"""
    command = [sys.executable, "-c", script]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert loaded == ["geopandas", "matplotlib", "openvino"]


@pytest.mark.slow
def test_without_the_extras_predicting_and_scoring_work_and_the_rest_names_them(
    pair, tiny_data, tiny_model, tmp_path
):
    from ctma.errors import EXTRAS

    remote = "http://127.0.0.1:9/a.tif"
    commands = [
        ["predict", *pair, "-c", tiny_model, "-o", tmp_path / "out", "--json"],
        ["eval", tiny_model, "--data", tiny_data, "-o", tmp_path / "scores.json", "--json"],
        ["train", "levir-cd/ctma-s", "--data", tiny_data, "-o", tmp_path / "run"],
        ["check", tiny_data],
        ["predict", remote, remote, "-c", tiny_model, "-o", tmp_path / "scene"],
    ]
    lines = [[*map(str, command)] for command in commands]
    # Torchmetrics looks for scipy among the installed packages, so that it cannot be hidden here.
    script = LEAN.format(absent=[*EXTRAS.keys() - {"scipy"}])
    command = [sys.executable, "-c", script, json.dumps(lines)]
    errors = subprocess.run(command, capture_output=True, text=True, check=True).stderr.split("\n")
    codes = [line for line in errors if line.startswith("code ")]
    assert codes == ["code 0", "code 0", "code 2", "code 2", "code 2"]
    advice = [line for line in errors if line.startswith("ctma: error")]
    assert ["ctma[train]" in line for line in advice] == [True, True, False]
    assert "ctma[scene]" in advice[2]
    assert "Traceback" not in "".join(errors)


def test_python_names_the_extra_too(monkeypatch):
    import ctma

    for name in [*sys.modules]:
        if name.startswith(("rioxarray", "ctma.scene.arrays")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rioxarray", None)
    with pytest.raises(ctma.CtmaError, match=r"rioxarray is not installed.*ctma\[dask\]"):
        _ = ctma.predict_xarray

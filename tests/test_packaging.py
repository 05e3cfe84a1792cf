"""What users install."""

import subprocess
import sys
import tarfile
import zipfile

import pytest

from support import ROOT

NETWORKS = (
    "bit", "cdnet", "ctma", "ctma-lite", "ctma-s", "dsamnet", "dsifn", "fc-ef", "fc-siam-conc",
    "fc-siam-diff", "lunet", "p2v", "snunet", "stanet", "unet",
)  # fmt: skip
pytestmark = pytest.mark.long

OTHER_FILES = {
    "ctma/py.typed",
    "ctma/review/assets/page.css",
    "ctma/review/assets/page.html",
    *(
        f"ctma/review/assets/{name}.js"
        for name in ("decisions", "geometry", "main", "tool", "view")
    ),
    "ctma/weights/README.md",
    *(f"ctma/weights/{name}.safetensors" for name in ("ctma-any", "ctma-lite", "ctma-s")),
    *(f"ctma/training/recipes/data/{name}.yaml" for name in ("levir-cd", "svcd", "whu-cd")),
    *(f"ctma/training/recipes/networks/{name}.yaml" for name in NETWORKS),
    *(
        f"ctma/training/recipes/shipped/{name}.yaml"
        for name in (
            "ctma",
            "ctma-any",
            "ctma-lite",
            "ctma-lite-start",
            "ctma-lite-still",
            "ctma-lite-svcd",
            "ctma-lite-wide",
            "ctma-middle",
            "ctma-resnet34",
            "ctma-s",
            "ctma-s-middle",
            "ctma-s-start",
            "ctma-start",
        )
    ),
    "ctma/training/recipes/demo/ctma-s.yaml",
}
"""Files of the package that are no modules."""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel and an sdist."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(built):
    (path,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(path).namelist())
    modules = {str(file.relative_to(ROOT / "src")) for file in (ROOT / "src/ctma").rglob("*.py")}
    described = {name for name in names if ".dist-info/" in name}
    assert names - described == modules | OTHER_FILES
    assert {name.rpartition("/")[2] for name in described} >= {
        "METADATA", "entry_points.txt", "LICENSE",
    }  # fmt: skip
    assert path.stat().st_size < 14e6


def test_the_metadata_say_what_is_needed_for_what(built):
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith("METADATA"))
        lines = wheel.read(name).decode().split("\n\n")[0].splitlines()
    needed = [line.split()[1] for line in lines if line.startswith("Requires-Dist")]
    always = [line for line in lines if line.startswith("Requires-Dist") and "extra ==" not in line]
    for package in ("lightning", "tensorboard", "imagehash", "geopandas", "rasterio"):
        assert any(name.startswith(package) for name in needed)
        assert not any(package in line for line in always)
    from ctma import __version__

    assert f"Version: {__version__}" in lines
    extras = {line.split()[1] for line in lines if line.startswith("Provides-Extra")}
    assert extras == {
        "train", "scene", "dask", "openvino", "onnx", "quantize", "pretrained", "unet", "all",
        "dev",
    }  # fmt: skip


def test_the_sdist_holds_what_its_tests_look_at(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for file in (
        "tests/conftest.py", "tests/models/golden/ctma_outputs.npz", "src/train.py", "Makefile",
        "configs/svcd/config_svcd_p2v.yaml", "docs/reference/recipes.md", "mkdocs.yml",
        "constraints.txt", "README.md", "LICENSE", "src/ctma/weights/ctma-s.safetensors",
    ):  # fmt: skip
        assert file in names, file
    assert not any(name.startswith(("weights/", ".venv", "runs")) for name in names)

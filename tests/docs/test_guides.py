"""What the guides tell people to type works as it stands there."""

import ast
import inspect
import re
import shlex

import pytest

import ctma as library
from ctma.data.synthetic import synthetic_pair, write_synthetic
from support import ROOT

GUIDES = sorted((ROOT / "docs/guides").glob("*.md"))
ELSEWHERE = {"extending"}
"""Guides with a test of their own."""


def command_lines(guide):
    """Lines of a guide's blocks that are to be typed one after the other."""
    blocks = re.findall(r"^```sh\n(.*?)^```", guide.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for line in "".join(blocks).splitlines() if line.strip()]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """What the guides say is there: a data folder, two images, two rasters."""
    pytest.importorskip("rasterio")
    from PIL import Image

    from support.scenes import write_raster

    folder = tmp_path_factory.mktemp("guides")
    write_synthetic(folder / "DATA", {"train": 4, "val": 1, "test": 1}, size=256)
    for name, pixels in zip(("before", "after"), synthetic_pair(128, seed=3), strict=False):
        Image.fromarray(pixels).save(folder / f"{name}.png")
        write_raster(folder / f"{name}.tif", pixels.transpose(2, 0, 1), photometric="RGB")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "guide",
    [guide for guide in GUIDES if guide.stem not in ELSEWHERE and command_lines(guide)],
    ids=lambda guide: guide.stem,
)
@pytest.mark.long
def test_every_command_line_of_a_guide_runs(ctma, guide, inputs, tmp_path):
    for path in inputs.iterdir():
        (tmp_path / path.name).symlink_to(path)
    for program, *arguments in command_lines(guide):
        assert program == "ctma"
        ctma(*arguments, cwd=tmp_path)


PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def library_calls(page):
    """Calls of ctma's functions in a page's Python blocks and in its sentences."""
    text = page.read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    sentences = re.findall(r"`(ctma\.\w+\([^`]*\))`", text)
    for source in (*blocks, *sentences):
        for node in ast.walk(ast.parse(source.replace("…", "..."))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("ctma."):
                yield node


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_calls_of_the_library_fit_its_functions(page):
    for call in library_calls(page):
        if any(
            isinstance(argument, ast.Constant) and argument.value is ... for argument in call.args
        ):
            continue
        function = getattr(library, ast.unparse(call.func).split(".")[1])
        arguments = {one.arg: None for one in call.keywords if one.arg}
        inspect.signature(function).bind_partial(*call.args, **arguments)

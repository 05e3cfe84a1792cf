"""Starts without torch: what an earlier start left in the cache is enough."""

import json

import numpy as np
import pytest
import torch

from ctma import Usage, create_model, export, load_model, save_model
from ctma.inference.ready import find_ready
from ctma.inference.running import Running
from support.commands import run_alone
from support.images import random_image, read, write_pair
from support.network_tester import live_in
from support.scenes import smooth, write_raster
from support.without_torch import run_without_torch

pytest.importorskip("onnx")
pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint of a live network, a pair of images and a pair of rasters."""
    folder = tmp_path_factory.mktemp("ready")
    torch.manual_seed(0)
    network = live_in(create_model("ctma-lite", video_len=0))
    network.usage = Usage(threshold=0.4, temperature=1.5, ground_sample_distance=0.5)
    save_model(folder / "m.safetensors", network)
    write_pair(folder, "one", random_image(1, 90), random_image(2, 90))
    for name, seed in (("before", 1), ("after", 2)):
        write_raster(folder / f"{name}.tif", smooth(seed, 130, 170))
    return folder


@pytest.fixture
def kept(tmp_path):
    """The environment of an empty cache, where the engine is not named."""
    return {"CTMA_CACHE": str(tmp_path / "cache"), "CTMA_ENGINE": "openvino"}


def images(folder):
    return folder / "A/one.png", folder / "B/one.png"


def rasters(folder):
    return folder / "before.tif", folder / "after.tif"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("inputs", "options", "made"),
    [
        (images, (), ("mask/one.png", "probability/one.png")),
        (images, ("--tta", "--gsd", "0.3", "--protocol", "crops"), ("probability/one.png",)),
        (rasters, (), ("mask.tif", "probability.tif", "changes.gpkg", "overview.png")),
        (rasters, ("--gsd", "0.9"), ("mask.tif", "probability.tif")),
        pytest.param(
            rasters, ("--workers", "1"), ("mask.tif", "probability.tif"), marks=pytest.mark.long
        ),
    ],
    ids=["images", "images, flipped and reduced", "rasters", "rasters, enlarged", "a worker"],
)
def test_the_second_start_needs_no_torch_and_gives_the_same_bytes(
    folder, kept, tmp_path, inputs, options, made
):
    command = ("predict", *inputs(folder), "-c", folder / "m.safetensors", *options, "-o")
    first = run_alone(*command, tmp_path / "first", env=kept)
    second = run_without_torch(*command, tmp_path / "second", env=kept)
    assert second.stdout.splitlines()[0] == first.stdout.splitlines()[0]
    for name in made:
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()


@pytest.mark.slow
def test_a_map_begun_with_torch_is_finished_without(folder, kept, tmp_path):
    command = ("predict", *rasters(folder), "-c", folder / "m.safetensors", "-o", tmp_path / "out")
    run_alone(*command, env=kept)
    former = json.loads((tmp_path / "out/summary.json").read_text())
    assert former["versions"]["torch"]
    run_without_torch(*command, "--resume", env=kept)
    assert json.loads((tmp_path / "out/summary.json").read_text()) == former


@pytest.mark.slow
def test_a_start_that_the_cache_does_not_know_asks_torch(folder, kept, tmp_path):
    command = ("predict", *images(folder), "-o", tmp_path / "out", "-c")
    run_alone(*command, folder / "m.safetensors", env=kept)
    run_without_torch(*command, folder / "m.safetensors", env=kept)
    network = load_model(folder / "m.safetensors")
    network.usage = network.usage.replace(threshold=0.6)
    save_model(tmp_path / "other.safetensors", network)
    asks = [
        (tmp_path / "other.safetensors",),
        (folder / "m.safetensors", "--precision", "float32"),
        (folder / "m.safetensors", "--no-cache"),
        (folder / "m.safetensors", "--tta"),
    ]
    for more in asks:
        error = run_without_torch(*command, *more, env=kept, code=2).stderr
        assert error.startswith("ctma: error: torch is not installed"), error
    fewer = kept | {"OMP_NUM_THREADS": "3"}
    run_without_torch(*command, folder / "m.safetensors", env=fewer, code=2)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
def test_a_damaged_cache_is_made_again(folder, kept, tmp_path, damage):
    command = ("predict", *images(folder), "-c", folder / "m.safetensors", "-o")
    run_alone(*command, tmp_path / "first", env=kept)
    entries = sorted((tmp_path / "cache/engines").glob("*.graph"))
    assert len(entries) >= 3, "graphs, a compiled graph and a start"
    for entry in entries:
        content = entry.read_bytes()
        damage(entry)
        run_alone(*command, tmp_path / "again", env=kept)
        made = [tmp_path / name / "probability/one.png" for name in ("first", "again")]
        np.testing.assert_array_equal(*map(read, made))
        entry.write_bytes(content)


def test_what_is_kept_is_not_found_for_another_file(folder, tmp_path):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes((folder / "m.safetensors").read_bytes()[:-1])
    assert find_ready(copy, Running()) is None


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["onnx", "xml"])
def test_an_exported_model_maps_rasters_where_torch_is_not_installed(folder, tmp_path, suffix):
    model = tmp_path / f"m.{suffix}"
    export(load_model(folder / "m.safetensors"), model)
    command = ("predict", *rasters(folder), "-c", model, "--tta", "-o")
    run_without_torch(*command, tmp_path / "without")
    run_alone(*command, tmp_path / "with")
    for name in ("mask.tif", "probability.tif", "changes.gpkg"):
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()
    error = run_without_torch(
        *command, tmp_path / "x", "--cluster", "tcp://127.0.0.1:1", code=2
    ).stderr
    assert "torch is not installed: only an exported .onnx or .xml runs without it" in error

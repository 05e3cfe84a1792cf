"""Generated pairs, tiny data sets, and the golden weights."""

import json
import math
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ctma import create_model
from ctma.checkpoints import Header, save_model
from ctma.data.synthetic import write_synthetic

GOLDEN = Path(__file__).parent / "golden"
SHARED_DATA = Path(__file__).parents[2] / "shared/data"


@pytest.fixture(autouse=True, scope="session")
def _two_threads():
    # In the processes that tests start too: sums depend on how many threads share them.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "2")
        torch.set_num_threads(2)
        yield


@pytest.fixture(scope="session")
def ctma():
    """Runs the command line in a process of its own."""

    def run(*arguments, code=0, cwd=None, module="ctma", env=None, timeout=300):
        result = subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=cwd,
            env=os.environ | {"COLUMNS": "200"} | (env or {}),
            timeout=timeout,
        )
        assert result.returncode == code, result.stdout + result.stderr
        return result

    return run


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """Synthetic pairs of 64 pixels: 8 to train on, 5 to validate on, 4 to test on."""
    folder = tmp_path_factory.mktemp("data") / "tiny"
    write_synthetic(folder, {"train": 8, "val": 5, "test": 4}, size=64)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A checkpoint of CTMA-S with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(
        path,
        create_model("ctma-s", video_len=2),
        Header(network="ctma-s", arguments={"video_len": 2}),
    )
    return path


@pytest.fixture(scope="session")
def golden_weights():
    """Weights under the released names, made as golden/README says."""
    spec = json.loads((GOLDEN / "ctma_spec.json").read_text())["state_dict"]
    weights = {name: _golden_weight(name, shape) for name, shape in spec.items()}
    weights["conv_out_v.seq.0.bias"].fill_(0.3299)
    return weights


@pytest.fixture(scope="session")
def golden_file(golden_weights, tmp_path_factory):
    """The golden weights as a file of the released implementation."""
    path = tmp_path_factory.mktemp("golden") / "original.pth"
    state = {"epoch": 3, "state_dict": golden_weights, "optimizer": {}, "max_acc": (0.9, 2)}
    torch.save(state, path)
    return path


def golden_image(seed, batch, height, width):
    rng = np.random.default_rng(seed)
    cells = math.ceil(height / 32), math.ceil(width / 32)
    blocks = rng.random((batch, 3, *cells), dtype=np.float32)
    blocks = blocks.repeat(32, axis=2).repeat(32, axis=3)[:, :, :height, :width]
    noise = rng.random((batch, 3, height, width), dtype=np.float32)
    return torch.from_numpy(np.float32(0.8) * blocks + np.float32(0.2) * noise)


def write_pair(folder, name, before, after, change=None):
    """Writes one pair as A, B and label PNGs."""
    for kind, image in (("A", before), ("B", after), ("label", change)):
        if image is not None:
            path = folder / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)


def random_image(seed, size=64, bands=3):
    """A picture with something to recognize: smooth noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (8, 8, bands), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(smooth)


def _golden_weight(name, shape):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if name.endswith("running_var"):
        values = rng.uniform(0.5, 1.5, shape)
    elif name.endswith(("running_mean", "bias")):
        values = rng.normal(0, 0.1, shape)
    elif len(shape) == 1:
        values = rng.uniform(0.5, 1.5, shape)
    else:
        values = rng.normal(0, 1 / math.sqrt(math.prod(shape[1:])), shape)
    return torch.from_numpy(values.astype(np.float32))

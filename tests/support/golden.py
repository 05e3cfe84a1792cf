"""Golden images and weights, made as golden/README says."""

import json
import math
import zlib

import numpy as np
import torch

from support import GOLDEN


def golden_image(seed, batch, height, width):
    rng = np.random.default_rng(seed)
    cells = math.ceil(height / 32), math.ceil(width / 32)
    blocks = rng.random((batch, 3, *cells), dtype=np.float32)
    blocks = blocks.repeat(32, axis=2).repeat(32, axis=3)[:, :, :height, :width]
    noise = rng.random((batch, 3, height, width), dtype=np.float32)
    return torch.from_numpy(np.float32(0.8) * blocks + np.float32(0.2) * noise)


def golden_state(network="ctma"):
    """Weights under the released names."""
    spec = json.loads((GOLDEN / f"{network}_spec.json").read_text())["state_dict"]
    weights = {name: _golden_weight(name, shape) for name, shape in spec.items()}
    if network == "ctma":
        weights["conv_out_v.seq.0.bias"].fill_(0.3299)
    return weights


def with_golden_weights(network):
    """A network, with such weights under its own names."""
    weights = {name: _golden_weight(name, own.shape) for name, own in network.state_dict().items()}
    network.load_state_dict(weights)
    return network


def golden_label():
    """Change of the golden training steps, (2, 1, 256, 256)."""
    blocks = np.random.default_rng(3).random((2, 8, 8)) > 0.7
    blocks = blocks.repeat(32, axis=1).repeat(32, axis=2)
    return torch.from_numpy(blocks[:, None].astype(np.uint8))


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

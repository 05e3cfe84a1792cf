"""The weights that shipped/ctma-start begins from: ctma-s, with the encoder of ctma-lite.

    python benchmarks/start_ctma.py CTMA_S CTMA_LITE -o START.safetensors

Temporal encoder, branches and decoders are those of ctma-s. The backbone of the difference features
is that of ctma-lite. The convolution between them fits neither, and is random.
"""

import argparse
from pathlib import Path

import torch

from ctma import load_model, load_recipe, save_model
from ctma.training.initial import create_network, inherit_usage

BACKBONE = "difference_path.backbone.pyramid."


def start(small, lite):
    """The network of shipped/ctma-start, with the weights of two others."""
    torch.manual_seed(0)
    network = create_network(load_recipe("shipped/ctma-start"), pretrained=False)
    known = {
        name: weight
        for name, weight in small.state_dict().items()
        if not name.startswith("difference_path.")
    }
    known |= {BACKBONE + name: weight for name, weight in lite.backbone.state_dict().items()}
    left = network.load_state_dict(known, strict=False)
    random = {f"difference_path.project.{kind}" for kind in ("weight", "bias")}
    assert {*left.missing_keys} == random
    assert not left.unexpected_keys
    inherit_usage(network, lite.usage)
    return network


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("small", metavar="CTMA_S")
    parser.add_argument("lite", metavar="CTMA_LITE")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    options = parser.parse_args()
    network = start(load_model(options.small), load_model(options.lite))
    save_model(options.output, network, scores=[])


if __name__ == "__main__":
    main()

"""The mean of the weights of several trainings that began with the same ones, scored on val.

    python benchmarks/average.py RUN RUN … --data DIR -o MEAN.safetensors

As ctma-lite is of three seeds (Wortsman et al., "Model soups", ICML 2022). It is to be calibrated
anew.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from ctma import evaluate, load_model, save_model


def mean(states):
    """Of all weights and batch statistics; counts stay those of the first."""
    for name, first in states[0].items():
        if first.is_floating_point():
            stacked = torch.stack([state[name].double() for state in states])
            yield name, stacked.mean(0).to(first.dtype)
        else:
            yield name, first


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    options = parser.parse_args()
    networks = [load_model(path) for path in options.checkpoints]
    if len({(network.name, str(network.arguments)) for network in networks}) > 1:
        parser.error("checkpoints of different networks")
    averaged = networks[0]
    averaged.load_state_dict(dict(mean([network.state_dict() for network in networks])))
    averaged.usage = replace(averaged.usage, temperature=1.0, offset=0.0, threshold=0.5)
    names = ", ".join(path.stem for path in options.checkpoints)
    began = {"name": f"mean of {names}", "fingerprint": averaged.fingerprint()}
    former = {"epoch": None, "calibration": {}, "agreement": {}}
    save_model(options.output, averaged, initial_weights=began, scores=[], **former)
    report = evaluate(
        options.output, options.data, "val", precision="float32",
        output=options.output.with_suffix(".json"), overwrite=True,
    )  # fmt: skip
    save_model(options.output, averaged, initial_weights=began, scores=[report.record], **former)


if __name__ == "__main__":
    main()

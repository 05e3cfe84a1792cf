"""The mean of the weights of several trainings that began with the same ones, scored on val.

    python benchmarks/average.py RUN RUN … --data DIR -o MEAN.safetensors [--shares 9 1 …]

As ctma-lite is of three seeds (Wortsman et al., "Model soups", ICML 2022), and as ctma-any is
of nine parts its own and one of ctma-lite, so that it holds better elsewhere (Wortsman et al.,
"Robust fine-tuning of zero-shot models", CVPR 2022). Recipe, training data and ground sample
distance are those of the first. It is to be calibrated anew.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from ctma import evaluate, load, load_model, save_model
from ctma.errors import CtmaError, SettingError


def mean(states, shares):
    """Of all weights and batch statistics; counts stay those of the first."""
    for name, first in states[0].items():
        if first.is_floating_point():
            parts = [
                state[name].double() * share for state, share in zip(states, shares, strict=True)
            ]
            yield name, (sum(parts) / sum(shares)).to(first.dtype)
        else:
            yield name, first


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--shares", nargs="+", type=float, help="Alike where none is said.")
    options = parser.parse_args()
    try:
        average(options.checkpoints, options.shares, options.data, options.output)
    except CtmaError as error:
        parser.error(str(error))


def average(checkpoints, shares, data, output):
    """Writes the mean of some checkpoints, with its score on the validation split of some data."""
    shares = shares or [1.0] * len(checkpoints)
    if len(shares) != len(checkpoints) or min(shares) <= 0:
        raise SettingError(f"`shares` {shares}: one above 0 for each of {len(checkpoints)}")
    networks = [load_model(path) for path in checkpoints]
    if len({(network.name, str(network.arguments)) for network in networks}) > 1:
        raise SettingError("checkpoints of different networks have no mean")
    averaged = networks[0]
    averaged.load_state_dict(dict(mean([network.state_dict() for network in networks], shares)))
    averaged.usage = averaged.usage.replace(temperature=1.0, offset=0.0, threshold=0.5)
    parts = zip(checkpoints, shares, strict=True)
    names = ", ".join(f"{share:g} {path.stem}" for path, share in parts)
    began = {"name": f"mean of {names}", "fingerprint": averaged.fingerprint()}
    known = {"epoch": None, "calibration": {}, "agreement": {}, "initial_weights": began}
    with TemporaryDirectory() as folder:
        trial = Path(folder, output.name)
        save_model(trial, averaged, scores=[], **known)
        record = evaluate(load(trial, precision="float32"), data, "val").record
    save_model(output, averaged, scores=[record.as_dict()], **known)


if __name__ == "__main__":
    main()

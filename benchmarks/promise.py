"""Whether the promise of `ctma calibrate --miss` holds: random splits of a validation split.

    python benchmarks/promise.py --shared DIR [--splits 1000]

The scenes of LEVIR-CD's validation with change are divided at random into two halves. One half
chooses the threshold, the other tells what is missed there. Printed is, for each promise, the mean
that is missed over all splits (in expectation, this must be below the promise), and the share of
the splits that miss more (with a confidence, this must be below one minus the confidence).
"""

import argparse
import json
from pathlib import Path

import numpy as np

from ctma import DataError, Scoring, load
from ctma.data.readers import find_pairs
from ctma.evaluation.misses import STEPS, SceneChanges, find_threshold, name_scenes
from ctma.evaluation.scoring import score_pairs

PROMISES = (
    (0.1, None), (0.15, None), (0.2, None), (0.3, None),
    (0.2, 0.8), (0.2, 0.9), (0.3, 0.9), (0.4, 0.9),
)  # fmt: skip


def measure(predictor, pairs, of):
    scenes, counts = name_scenes(pairs, None), SceneChanges(of)
    names = {pair.name: scene for pair, scene in scenes.items()}
    score_pairs(
        predictor, pairs, Scoring(), on_pair=lambda one: counts.add(names[one.pair.name], one)
    )
    return counts.losses()


def split(losses, miss, sure, splits):
    missed, thresholds, refused = [], [], 0
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(losses))
        first, second = np.array_split(losses[order], 2)
        try:
            index = find_threshold(first, miss, sure)
        except DataError:
            refused += 1
            continue
        missed.append(second[:, index].mean())
        thresholds.append(index / STEPS)
    if not missed:
        return {"refused": refused}
    more = np.mean(np.array(missed) > miss)
    return {
        "missed": round(float(np.mean(missed)), 4),
        "missed more": round(float(more), 4),
        "threshold": round(float(np.mean(thresholds)), 3),
        "refused": refused,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--splits", type=int, default=1000)
    options = parser.parse_args()
    predictor = load("ctma-lite", precision="float32")
    pairs = find_pairs(options.shared / "levir_cd_05m", "val")
    for of in ("area", "objects"):
        losses = measure(predictor, pairs, of)
        print(
            of,
            len(losses),
            "scenes; missed at the shipped threshold",
            losses[:, 430].mean().round(4),
        )
        for miss, sure in PROMISES:
            found = split(losses, miss, sure, options.splits)
            print(json.dumps({"of": of, "miss": miss, "sure": sure, **found}), flush=True)


if __name__ == "__main__":
    main()

"""How a checkpoint's F1 holds when the dates differ in ways that are no change.

    python benchmarks/robustness.py --checkpoint ctma-s --data DIR --split val

Each condition changes every pair in one way and scores it by the protocol ``crops``.
"""

import argparse

import numpy as np
import torch

from ctma import load_model
from ctma.data.dataset import PairDataset, find_label_scale
from ctma.data.readers import find_pairs
from ctma.devices import autocast, fast_precision
from ctma.evaluation.metrics import ConfusionMatrix
from ctma.evaluation.protocols import crops


def moved(image, pixels):
    return np.pad(image, ((pixels, 0), (pixels, 0), (0, 0)), "edge")[:-pixels, :-pixels]


def lit(image, gain, offset, gamma):
    return (255 * np.clip((image / 255) ** gamma * gain + offset, 0, 1)).astype(np.uint8)


CONDITIONS = {
    "as it is": lambda before, after: (before, after),
    "dates swapped": lambda before, after: (after, before),
    "after moved by 1 pixel, right and down": lambda before, after: (before, moved(after, 1)),
    "after moved by 2 pixels, right and down": lambda before, after: (before, moved(after, 2)),
    "after darker (gain 0.75)": lambda b, a: (b, lit(a, 0.75, 0, 1)),
    "after brighter (gain 1.2, offset 0.05)": lambda b, a: (b, lit(a, 1.2, 0.05, 1)),
    "after reddish": lambda b, a: (b, lit(a, np.array([1.15, 1.0, 0.85]), 0, 1)),
    "identical (before twice)": lambda before, after: (before, before),
    "identical (after twice)": lambda before, after: (after, after),
}


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--every", type=int, default=1, help="Every Nth pair only.")
    options = parser.parse_args()
    model = load_model(options.checkpoint)
    pairs = find_pairs(options.data, options.split)[:: options.every]
    dataset = PairDataset(pairs, find_label_scale(pairs))
    for name, condition in CONDITIONS.items():
        confusion = ConfusionMatrix(model.header.threshold)
        claimed = pixels = 0
        for number in range(len(dataset)):
            before, after, change = dataset.read(number)
            images = [
                torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
                for image in condition(before, after)
            ]
            with autocast(torch.device("cpu"), fast_precision()):
                probability = crops(model, *images)
            confusion.update(probability, torch.from_numpy(change)[None, None])
            claimed += int((probability > model.header.threshold).sum())
            pixels += change.size
        if name.startswith("identical"):
            print(f"{name}: {100 * claimed / pixels:.4f} % of pixels claimed", flush=True)
        else:
            print(f"{name}: F1 {100 * confusion.scores().f1:.2f}", flush=True)


if __name__ == "__main__":
    main()

"""How a checkpoint's F1 holds when the dates differ in ways that are no change.

    python benchmarks/robustness.py --checkpoint ctma-s --data DIR --split val

Each condition changes every pair in one way and scores it by the protocol ``crops``; other
pixel sizes are scored twice, as they are and with their ground sample distance told (``--gsd``).
"""

import argparse
from functools import partial

import numpy as np
import torch
from PIL import Image

from ctma import load
from ctma.data.augmentation import compress, lose_detail
from ctma.data.dataset import PairDataset, to_tensor
from ctma.data.pairs import find_coding
from ctma.data.readers import find_pairs
from ctma.evaluation.metrics import ConfusionMatrix
from ctma.inference.protocols import crops
from ctma.inference.resolution import find_enlargement
from ctma.inference.views import look_as, see


def later(alter):
    """Only the later date, by a function of the image."""
    return lambda before, after, change: (before, alter(after), change)


def moved(pixels):
    def alter(image):
        padded = np.pad(image, ((pixels, 0), (pixels, 0), (0, 0)), "edge")
        return padded[:-pixels, :-pixels]

    return later(alter)


def lit(gain=1.0, offset=0.0):
    def alter(image):
        return (255 * np.clip(image / 255 * gain + offset, 0, 1)).astype(np.uint8)

    return later(alter)


def cast(*gains):
    return lit(np.array(gains))


def seen_at(factor):
    def condition(before, after, change):
        size = [round(length / factor) for length in change.shape[::-1]]
        smooth, nearest = Image.Resampling.BICUBIC, Image.Resampling.NEAREST
        parts = ((before, smooth), (after, smooth), (change, nearest))
        return [np.asarray(Image.fromarray(part).resize(size, how)) for part, how in parts]

    return condition


CONDITIONS = {
    "as it is": lambda before, after, change: (before, after, change),
    "dates swapped": lambda before, after, change: (after, before, change),
    "after moved by 1 pixel, right and down": moved(1),
    "after moved by 2 pixels, right and down": moved(2),
    "after darker (gain 0.75)": lit(0.75),
    "after brighter (gain 1.2, offset 0.05)": lit(1.2, 0.05),
    "after reddish (red 1.15, blue 0.85)": cast(1.15, 1.0, 0.85),
    "after bluish (red 0.85, blue 1.15)": cast(0.85, 1.0, 1.15),
    "after greenish (green 1.15)": cast(1.0, 1.15, 1.0),
    "after blurred (halved and enlarged)": later(partial(lose_detail, factor=2)),
    "after as JPEG (quality 40)": later(partial(compress, quality=40)),
    "identical (before twice)": lambda b, a, change: (b, b, np.zeros_like(change)),
    "identical (after twice)": lambda b, a, change: (a, a, np.zeros_like(change)),
}
PIXEL_SIZES = (0.6, 1.6, 2.4)
"""Of the data's own."""


@torch.no_grad()
def score(model, dataset, condition):
    """F1, and the share of all pixels that is claimed."""
    confusion = ConfusionMatrix(model.usage.threshold)
    claimed = pixels = 0
    for number in range(len(dataset)):
        *images, change = condition(*dataset.read(number))
        images = [to_tensor(image)[None] for image in images]
        probability = crops(partial(see, model), *images)
        confusion.update(probability, to_tensor(change)[None])
        claimed += int((probability > model.usage.threshold).sum())
        pixels += change.size
    return confusion.scores().f1, claimed / pixels


def conditions(model, dataset):
    """A line for each condition."""
    for name, condition in CONDITIONS.items():
        f1, claimed = score(model, dataset, condition)
        still = name.startswith("identical")
        yield f"{name}: {100 * claimed:.4f} % of pixels" if still else f"{name}: F1 {100 * f1:.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--every", type=int, default=1, help="Every Nth pair only.")
    parser.add_argument("--gsd", type=float, default=0.5, help="Metres a pixel of the data.")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="float32")
    options = parser.parse_args()
    predictor = load(options.checkpoint, engine=options.engine, precision=options.precision)
    model = predictor.prepared.eval()
    pairs = find_pairs(options.data, options.split)[:: options.every]
    dataset = PairDataset(pairs, find_coding(pairs))
    for line in conditions(model, dataset):
        print(line, flush=True)
    for factor in PIXEL_SIZES:
        told = look_as(model, enlargement=find_enlargement(model.usage, factor * options.gsd))
        scores = [score(network, dataset, seen_at(factor))[0] for network in (model, told)]
        print(
            f"both at {factor * options.gsd:.2g} m: F1 {100 * scores[0]:.2f}, "
            f"told so {100 * scores[1]:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()

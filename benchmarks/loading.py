"""How many pairs a second one core decodes and augments: 256 x 256 JPEG pairs.

Usage: python benchmarks/loading.py [--data DIR --split train]

Without data, synthetic pairs are written as JPEG, as SVCD stores its images. The rate is
also given relative to decoding alone, so that runs on different machines compare.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from ctma.data.augmentation import augmentation
from ctma.data.dataset import Draw, PairDataset
from ctma.data.images import read_image, read_label
from ctma.data.pairs import Coding
from ctma.data.readers import find_pairs
from ctma.data.synthetic import synthetic_pair

ROUNDS = 5


def write_jpeg_pairs(folder, count):
    for number in range(count):
        before, after, change = synthetic_pair(256, number)
        for kind, image in (("A", before), ("B", after), ("OUT", change * 255)):
            path = folder / "train" / kind / f"{number:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path, quality=95)


def rate(work, items):
    """Best of several rounds, in items a second of processor time."""
    best = 0.0
    for _ in range(ROUNDS):
        start = time.process_time()
        for item in items:
            work(item)
        best = max(best, len(items) / (time.process_time() - start))
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--split", default="train")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if options.data is None:
            write_jpeg_pairs(Path(folder), 100)
        pairs = find_pairs(options.data or folder, options.split)[:300]

        def decode(pair):
            read_image(pair.before), read_image(pair.after), read_label(pair.change)

        decoding = rate(decode, pairs)
        print(f"decoding alone        {decoding:6.0f} pairs/s a core")
        for name in ("paper", "strong"):
            dataset = PairDataset(pairs, Coding(), 256, augmentation(name))
            draws = [Draw(index, index) for index in range(len(pairs))]
            found = rate(dataset.__getitem__, draws)
            print(
                f"decoding and {name:8} {found:6.0f} pairs/s a core, {found / decoding:.2f} of it"
            )


if __name__ == "__main__":
    main()

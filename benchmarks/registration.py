"""How well the shift between two dates is told, on real pairs and on planted shifts.

    python benchmarks/registration.py --data DIR/levir_cd_05m --split test \
        --data DIR/levir_cd_1m --split val

Registered pairs shall not be warned of. Then the later date is shifted by 2 to 12 pixels in a
direction drawn at random, in pairs whose own shift is told. What is found shall be what was planted
and what the pair itself is off by, or nothing.
"""

import argparse

import numpy as np
from scipy import ndimage

from ctma.data.pairs import read_pair
from ctma.data.readers import find_pairs
from ctma.scene.registration import NOTABLE, find_shift

BORDER = 14
"""Pixels left out at each side, so that no planted shift brings in a border."""


def told(before, after):
    images = (image.transpose(2, 0, 1) for image in (before, after))
    return find_shift(*((image, np.ones(image.shape[1:], bool)) for image in images))


def plant(image, columns, rows):
    return ndimage.shift(image.astype(np.float32), (rows, columns, 0), order=1, mode="nearest")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", action="append", required=True)
    parser.add_argument("--split", action="append", required=True)
    parser.add_argument("--most", type=int, default=30, help="pairs of a folder")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    folders = zip(options.data, options.split, strict=True)
    pairs = [pair for data, split in folders for pair in find_pairs(data, split)[: options.most]]
    images = [read_pair(pair) for pair in pairs]
    own = [told(*pair) for pair in images]
    warned = sum(shift is not None and shift.length > NOTABLE for shift in own)
    silent = own.count(None)
    print(f"registered: {len(pairs)} pairs, {silent} not told, {warned} warned of")
    inner = np.s_[BORDER:-BORDER, BORDER:-BORDER]
    for seed in range(options.seeds):
        rng = np.random.default_rng(seed)
        found = wrong = 0
        for (before, after), at in zip(images, own, strict=True):
            if at is None:
                continue
            length, turn = rng.uniform(2, 12), rng.uniform(0, 2 * np.pi)
            planted = length * np.cos(turn), length * np.sin(turn)
            now = told(before[inner], plant(after, *planted)[inner])
            if now is None:
                continue
            miss = np.hypot(*(now[axis] - at[axis] - planted[axis] for axis in (0, 1)))
            found += miss <= 0.3
            wrong += miss > 0.3
        rest = len(pairs) - silent - found - wrong
        print(
            f"planted, seed {seed}: {found} within 0.3 pixels, {wrong} otherwise, {rest} not told"
        )


if __name__ == "__main__":
    main()

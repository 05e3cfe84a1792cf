"""Scenes from start to end by this checkout and by another one, in turns.

    python benchmarks/turns.py --data DIR --against OTHER/src [--across 4] [--turns 3]

Each map is made by ``ctma predict`` in a process of its own. The first map of a checkout is not
counted: it fills the cache. Printed are the medians, their ratios, and whether the maps agree.
``DIR`` is a data folder with a labelled split ``test``.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import rasterio
from startup import HERE, cost


def run(source, pair, output, options):
    """Seconds, processor seconds and peak memory in GB of one map."""
    command = ["-m", "ctma", "predict", *map(str, pair), "-o", str(output), *options]
    return timed(command, source, output.parent)


def timed(command, source, folder):
    """Seconds, processor seconds and peak memory in GB of a process of Python's."""
    start = time.monotonic()
    code, used, peak = cost(command, source, folder)
    assert code == 0, command
    return time.monotonic() - start, used, peak


def prepare(options):
    """Writes the scene of both dates, and the label."""
    from scenes import georeferenced, mosaic

    *images, change = mosaic(options)
    for number, image in enumerate(images):
        georeferenced(options.prepare / f"{number}.tif", image)
    georeferenced(options.prepare / "label.tif", change[..., None].astype("uint8"))


def agreement(first, second):
    """The share of pixels on which two maps agree, in percent."""
    masks = []
    for folder in (first, second):
        with rasterio.open(folder / "mask.tif") as raster:
            masks.append(raster.read(1))
    return 100 * (masks[0] == masks[1]).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--against", type=Path, help="The folder src of another checkout.")
    parser.add_argument("--across", type=int, default=4, help="N x N scenes make one.")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    options, further = parser.parse_known_args()
    if options.prepare:
        prepare(options)
        return
    checkouts = {"this": HERE} | ({"other": options.against} if options.against else {})
    found = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: what this one has in memory would count for those it starts.
        prepared = [sys.executable, *sys.argv, "--prepare", folder]
        subprocess.run(prepared, check=True)
        pair = [Path(folder) / f"{number}.tif" for number in (0, 1)]
        with rasterio.open(pair[0]) as raster:
            side = raster.width
        for turn in range(options.turns + 1):
            for name, source in checkouts.items():
                measured = run(source, pair, Path(folder) / f"{name}-{turn}", further)
                if turn:
                    found[name].append(measured)
        middles = {
            name: [median(values) for values in zip(*all_, strict=True)]
            for name, all_ in found.items()
        }
        for name, (seconds, used, peak) in middles.items():
            print(
                f"{name}: {side} x {side}, {seconds:.2f} s ({side**2 / seconds / 1e6:.2f} Mpx/s), "
                f"{used:.2f} processor seconds, peak {peak:.2f} GB"
            )
        if "other" in middles:
            ratios = [b / a for a, b in zip(middles["this"], middles["other"], strict=True)]
            same = agreement(*(Path(folder) / f"{name}-1" for name in checkouts))
            print("other / this: time {:.2f}, processor {:.2f}, memory {:.2f}".format(*ratios))
            print(f"agreement {same:.4f} % of pixels")


if __name__ == "__main__":
    main()

"""What grows in a process that predicts for a long time: memory, open files, files left behind.

    python benchmarks/long_life.py --rounds 1000

A round predicts a pair of images and a small scene. The memory of the process is read after every
twentieth part of the rounds. The first quarter, in which caches fill, does not count.
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import psutil
import rasterio
from rasterio.transform import from_origin

import ctma

SIDE = 96


def write_scene(path, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8)
    place = from_origin(500_000, 4_000_000, 0.5, 0.5)
    with rasterio.open(
        path, "w", driver="GTiff", width=SIDE, height=SIDE, count=3, dtype="uint8",
        crs="EPSG:32643", transform=place,
    ) as raster:  # fmt: skip
        raster.write(pixels)
    return pixels.transpose(1, 2, 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--checkpoint", default="ctma-lite")
    options = parser.parse_args()
    process = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CTMA_CACHE"] = str(Path(folder) / "cache")
        os.environ["TMPDIR"] = tempfile.tempdir = str(Path(folder) / "temporary")
        Path(tempfile.tempdir).mkdir()
        names = [Path(folder) / f"{date}.tif" for date in ("before", "after")]
        images = [write_scene(name, seed) for seed, name in enumerate(names)]
        predictor = ctma.load(options.checkpoint)
        settings = ctma.SceneSettings(picture=False)
        seen = []
        for number in range(options.rounds):
            ctma.predict(*images, predictor)
            ctma.predict_scene(*names, predictor, Path(folder) / "out", settings, overwrite=True)
            if (number + 1) % max(1, options.rounds // 20) == 0:
                seen.append((number + 1, process.memory_info().rss / 2**20, process.num_fds()))
                print("{:6d} rounds, {:7.1f} MiB, {} open files".format(*seen[-1]), flush=True)
        left = [path for path in Path(tempfile.tempdir).rglob("*") if path.is_file()]
        cached = [path for path in (Path(folder) / "cache").rglob("*") if path.is_file()]
    counted = np.array(seen[len(seen) // 4 :])
    slope, _ = np.polyfit(counted[:, 0], counted[:, 1], 1)
    spread = np.std(
        counted[:, 1] - np.polyval(np.polyfit(counted[:, 0], counted[:, 1], 1), counted[:, 0])
    )
    print(f"memory: {1000 * slope:+.1f} MiB per 1000 rounds, spread {spread:.1f} MiB")
    print(f"open files: {counted[0, 2]:.0f} to {counted[-1, 2]:.0f}")
    print(f"left behind: {len(left)} temporary files; in the cache: {len(cached)}")


if __name__ == "__main__":
    main()

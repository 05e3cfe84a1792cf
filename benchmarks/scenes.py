"""Speed, memory and seams of whole scenes, each as a ratio within one run.

    python benchmarks/scenes.py memory
    python benchmarks/scenes.py speed --data DIR --checkpoint FILE
    python benchmarks/scenes.py speed --data DIR --checkpoint FILE --across 10 --part 1024
    python benchmarks/scenes.py seams --scenes DIR --checkpoint FILE

``DIR`` of ``speed`` is a data folder with a labelled split ``test``; that of
``seams`` holds rasters in pairs ``NAME_1.tif`` and ``NAME_2.tif`` in the order of their dates.
"""

import argparse
import multiprocessing
import re
import tempfile
import time
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin
from rasterio.windows import Window

from ctma import (
    ChangeLogits,
    ChangeNetwork,
    SceneSettings,
    Tiling,
    load,
    load_model,
    predict_scene,
)
from ctma.data.images import read_image, read_label
from ctma.data.readers import find_pairs
from ctma.data.tiles import windows
from ctma.evaluation.metrics import ConfusionMatrix
from ctma.inference.protocols import STRIDE, WINDOW, sliding
from ctma.inference.views import see
from ctma.scene.blending import axis
from ctma.scene.plan import Reader, make_plan
from ctma.scene.windows import in_order, look_at

SIZES = (5_000, 10_000, 20_000)


class Trivial(ChangeNetwork):
    """As little as a network can do: the difference of one band."""

    bands = 3

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(8.0))

    def forward(self, before, after):
        return ChangeLogits(self.gain * (after[:, :1] - before[:, :1]).abs() - 4)


def write_scene(path, size, seed):
    """A scene of coarse blocks with noise, written strip by strip."""
    rng = np.random.default_rng(seed)
    profile = {
        "driver": "GTiff", "dtype": "uint8", "count": 3, "width": size, "height": size,
        "crs": "EPSG:32643", "transform": from_origin(500_000, 4_000_000, 0.5, 0.5),
        "tiled": True, "blockxsize": 512, "blockysize": 512, "interleave": "pixel",
    }  # fmt: skip
    blocks = np.random.default_rng(0).integers(0, 100, (3, size // 100, size // 100), np.uint8)
    changed = rng.random(blocks.shape[1:]) < 0.02 * seed
    blocks[:, changed] += 140
    with rasterio.open(path, "w", **profile) as raster:
        for row, strip in enumerate(blocks.transpose(1, 0, 2)):
            pixels = strip[:, None, :].repeat(100, axis=1).repeat(100, axis=2)
            pixels = pixels + rng.integers(0, 8, pixels.shape, np.uint8)
            raster.write(pixels, window=Window(0, 100 * row, size, 100))
    return path


def run_trivial(pair, output, report):
    torch.set_num_threads(2)
    report.put(measured(pair, Trivial().eval(), output))


def measured(pair, model, output):
    """Seconds, peak memory of this process in GB, and how many changes."""
    start = time.monotonic()
    result = predict_scene(*pair, model, output, SceneSettings(picture=False))
    seconds = time.monotonic() - start
    status = Path("/proc/self/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024 / 1e9
    return seconds, peak, result.summary["changes"]


def alone(function, *arguments):
    """What a function reports from a process of its own."""
    context = multiprocessing.get_context("spawn")
    report = context.Queue()
    process = context.Process(target=function, args=(*arguments, report))
    process.start()
    found = report.get()
    process.join()
    return found


def memory(_):
    peaks = []
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            pair = [write_scene(Path(folder) / f"{n}.tif", size, n) for n in (0, 1)]
            seconds, peak, changes = alone(run_trivial, pair, Path(folder) / "o")
        peaks.append(peak)
        print(
            f"{size} x {size}: peak {peak:.2f} GB, {changes} changes, "
            f"{size * size / seconds / 1e6:.1f} Mpx/s",
            flush=True,
        )
    print(f"largest / smallest peak: {max(peaks) / min(peaks):.3f}")


def georeferenced(path, image):
    height, width, bands = image.shape
    transform = from_origin(500_000, 4_000_000, 0.5, 0.5)
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=bands, width=width, height=height,
        crs="EPSG:32643", transform=transform, tiled=True,
    ) as raster:  # fmt: skip
        raster.write(image.transpose(2, 0, 1))
    return path


def network_alone(pair, predictor):
    """Seconds that the windows of a scene take in the network, read before."""
    plan, _ = make_plan(*map(str, pair), predictor.usage, predictor.stride, SceneSettings())
    indices = [
        (i, j) for i in range(len(plan.rows.origins)) for j in range(len(plan.columns.origins))
    ]
    threads = torch.get_num_threads()
    with Reader(plan) as reader:
        images = [reader.read(index) for index in indices]
    with predictor.look(plan.enlargement, threads) as look:
        start = time.monotonic()
        for _ in in_order(partial(look_at, look), iter(images), look.callers, look.begin_thread):
            pass
        seconds = time.monotonic() - start
    torch.set_num_threads(threads)
    return seconds


def mosaic(options):
    """Test scenes as one, again and again where there are fewer: before, after and label."""
    pairs = find_pairs(options.data, "test")[: options.across**2]

    def joined(images):
        tiles = cycle(images)
        rows = [np.concatenate([*islice(tiles, options.across)], 1) for _ in range(options.across)]
        return np.concatenate(rows)

    before, after = (
        joined([read_image(getattr(pair, date)) for pair in pairs]) for date in ("before", "after")
    )
    return before, after, joined([read_label(pair.change) > 127 for pair in pairs])


def speed(options):
    predictor = load(options.checkpoint, engine=options.engine, precision=options.precision)
    *images, change = mosaic(options)
    with tempfile.TemporaryDirectory() as folder:
        rasters = [georeferenced(Path(folder) / f"{n}.tif", i) for n, i in enumerate(images)]
        inside = network_alone(rasters, predictor)
        mask, whole = mapped(rasters, predictor, Path(folder) / "out")
        height, width = mask.shape
        how = f"{predictor.engine}, {predictor.precision}"
        print(f"{how}, {height} x {width}: {whole:.1f} s, ", end="")
        print(f"{mask.size / whole / 1e6:.2f} Mpx/s", flush=True)
        eager = predictor.running_as(engine="eager", precision="float32")
        usual, seconds = mapped(rasters, eager, Path(folder) / "eager")
    print(f"eager float32 / ours: {seconds / whole:.1f} times the time")
    print(f"agreement with it: {100 * (usual == mask).mean():.3f} % of pixels")
    print(f"outside the network: {100 * (1 - inside / whole):.1f} %", flush=True)
    part = tuple(slice(min(side, options.part or side)) for side in mask.shape)
    tensors = [torch.from_numpy(i[part].transpose(2, 0, 1).copy())[None] for i in images]
    counts = [len(windows(*area.shape, WINDOW, STRIDE)) for area in (mask, mask[part])]
    for checkpoint in options.slide or [options.checkpoint]:
        slider = load_model(checkpoint)
        start = time.monotonic()
        slid = sliding(partial(see, slider), *tensors)[0, 0].numpy() > slider.usage.threshold
        seconds = (time.monotonic() - start) * counts[0] / counts[1]
        print(f"sliding {checkpoint} / ours: {seconds / whole:.1f} times the time, ", end="")
        print(f"of {counts[0]} windows {counts[1]} done")
        print(f"agreement with it: {100 * (slid == mask[part]).mean():.2f} % of pixels")
        print(f"F1 of it: {f1(slid, change[part]):.2f}, ours {f1(mask[part], change[part]):.2f}")


def f1(mask, change):
    confusion = ConfusionMatrix(0.5)
    found, label = (torch.from_numpy(one)[None, None] for one in (mask, change))
    confusion.update(found.float(), label.to(torch.uint8))
    return 100 * confusion.scores().f1


def mapped(pair, model, output):
    """The mask of a scene, and the seconds it took."""
    start = time.monotonic()
    result = predict_scene(*pair, model, output)
    seconds = time.monotonic() - start
    return read_mask(result.mask), seconds


def read_mask(path):
    with rasterio.open(path) as raster:
        return raster.read(1) == 1


def seams(options):
    """Steps between neighbours where windows begin, against the same places in mid-window."""
    model = load_model(options.checkpoint)
    tilings = [Tiling(size=size) for size in (200, 256, 320, 400)]
    at_borders, inside = [], []
    for first in sorted(Path(options.scenes).glob("*_1.tif")):
        second = first.with_name(first.name.replace("_1.tif", "_2.tif"))
        maps, seen = zip(*(predicted(first, second, model, one) for one in tilings), strict=True)
        for direction in (0, 1):
            borders = [{*edges(maps[0].shape[direction], tiling)} for tiling in seen]
            for own, places in enumerate(borders):
                for place in places:
                    others = [
                        step(probability, place, direction)
                        for probability, theirs in zip(maps, borders, strict=True)
                        if not theirs & {place - 1, place, place + 1}
                    ]
                    if others:
                        at_borders.append(step(maps[own], place, direction))
                        inside.append(np.mean(others))
    print(f"{len(inside)} borders, step {np.mean(at_borders):.6f}, inside {np.mean(inside):.6f}")
    print(f"ratio {np.mean(at_borders) / np.mean(inside):.3f}")


def predicted(first, second, model, tiling):
    """The probability of change, and how windows lay on the scene's own pixels."""
    with tempfile.TemporaryDirectory() as folder:
        result = predict_scene(first, second, model, folder, SceneSettings(tiling=tiling))
        with rasterio.open(result.probability) as raster:
            stored = raster.read(1)
            return np.where(stored == 255, np.nan, stored / 250), result.plan.tiling


def step(probability, place, direction):
    """Mean absolute difference of the pixels on both sides of a line."""
    near = np.take(probability, [place - 1, place], axis=direction)
    return np.nanmean(np.abs(np.diff(near, axis=direction)))


def edges(length, tiling):
    """Pixels at which a window starts to count, or stops."""
    found = axis(length, tiling)
    for origin, weights in zip(found.origins, found.weights, strict=True):
        inside = np.flatnonzero(weights)
        for place in (origin + inside[0], origin + inside[-1] + 1):
            if 0 < place < length:
                yield int(place)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    commands.add_parser("memory").set_defaults(run=memory)
    fast = commands.add_parser("speed")
    fast.add_argument("--data", required=True)
    fast.add_argument("--across", type=int, default=2, help="N x N scenes make one.")
    fast.add_argument("--engine", default="auto")
    fast.add_argument("--precision", default="auto")
    fast.add_argument("--part", type=int, help="Slide over so many rows and columns only.")
    fast.add_argument("--slide", nargs="+", help="Checkpoints to slide; the same by default.")
    fast.set_defaults(run=speed)
    smooth = commands.add_parser("seams")
    smooth.add_argument("--scenes", required=True)
    smooth.set_defaults(run=seams)
    for command in (fast, smooth):
        command.add_argument("--checkpoint", required=True)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()

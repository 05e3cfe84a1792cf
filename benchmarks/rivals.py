"""One scene from two GeoTIFFs to a mask on disk: the shipped weights beside a notebook's U-Net.

    pip install --no-deps segmentation-models-pytorch
    python benchmarks/rivals.py --data DIR [--across 2] [--turns 3] [--figure FILE] [--json FILE]

The U-Net is Siamese, with a ResNet-34 as encoder. It runs as most notebooks run one: both rasters
in memory, windows of 256 pixels with half overlap, batches of 8, the mean of overlapping
probabilities. Its weights are random, so it has no F1. ``DIR`` is a data folder with a labelled
split ``test``. Every map is made in a process of its own, in turns; printed are the medians.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import rasterio
from startup import HERE
from turns import prepare, timed
from turns import run as map_scene

WINDOW, STRIDE, BATCH = 256, 128, 8
WAYS = {
    "ctma-lite": "",
    "ctma-s": "",
    "U-Net, torch": "eager",
    "U-Net, OpenVINO": "openvino",
}


def siamese_unet():
    """Both dates through one encoder; the decoder sees the differences of their features."""
    import segmentation_models_pytorch as smp
    import torch

    class SiameseUNet(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unet = smp.Unet("resnet34", encoder_weights=None, classes=1)

        def forward(self, before, after):
            dates = zip(self.unet.encoder(before), self.unet.encoder(after), strict=True)
            features = [torch.abs(first - second) for first, second in dates]
            return self.unet.segmentation_head(self.unet.decoder(features))

    torch.manual_seed(0)
    return SiameseUNet().eval()


def in_openvino(network):
    """The network as a function of two arrays, compiled for this processor."""
    import openvino
    import torch

    examples = tuple(torch.rand(2, BATCH, 3, WINDOW, WINDOW))
    graph = openvino.convert_model(network, example_input=examples)
    compiled = openvino.Core().compile_model(graph, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    return lambda *dates: torch.from_numpy(compiled(dates)[0])


def as_in_a_notebook(pair, output, way):
    """Maps a scene window by window, and writes the mask."""
    import numpy as np
    import torch

    network = siamese_unet()
    see = in_openvino(network) if way == "openvino" else network
    images = []
    for path in pair:
        with rasterio.open(path) as raster:
            images.append(raster.read().astype(np.float32) / 255)
            profile = raster.profile
    height, width = images[0].shape[1:]
    total, times = np.zeros((2, height, width), np.float32)
    places = [(top, left) for top in origins(height) for left in origins(width)]
    with torch.inference_mode():
        for start in range(0, len(places), BATCH):
            part = places[start : start + BATCH]
            areas = [np.s_[top : top + WINDOW, left : left + WINDOW] for top, left in part]
            dates = [np.stack([image[(slice(None), *area)] for area in areas]) for image in images]
            logits = see(*map(torch.from_numpy, dates))
            for area, probability in zip(areas, torch.sigmoid(logits)[:, 0].numpy(), strict=True):
                total[area] += probability
                times[area] += 1
    profile.update(count=1, compress="deflate")
    output.mkdir()
    with rasterio.open(output / "mask.tif", "w", **profile) as raster:
        raster.write((total / times > 0.5).astype(np.uint8), 1)


def origins(side):
    """Where windows begin; the last window ends with the scene."""
    return [*range(0, side - WINDOW, STRIDE), side - WINDOW]


def run(name, folder, turn):
    """Seconds and peak gigabytes of one map."""
    pair = [str(folder / f"{number}.tif") for number in (0, 1)]
    output = folder / f"{name}-{turn}"
    if WAYS[name]:
        command = [__file__, "--way", WAYS[name], "--map", *pair, str(output)]
        seconds, _, peak = timed(command, HERE, folder)
    else:
        seconds, _, peak = map_scene(HERE, pair, output, ["-c", name])
    return seconds, peak


def measure(options, folder):
    """A row for each way: seconds, Mpx/s, peak memory, F1."""
    from scenes import f1, read_mask

    label = read_mask(folder / "label.tif")
    found = {name: [] for name in WAYS}
    for turn in range(options.turns + 1):
        for name, measured in found.items():
            # The first turn is not counted: it fills caches.
            measured += [run(name, folder, turn)] * bool(turn)
    for name, measured in found.items():
        seconds, peak = map(median, zip(*measured, strict=True))
        yield {
            "name": name,
            "seconds": round(seconds, 2),
            "mpx_per_second": round(label.size / seconds / 1e6, 2),
            "peak_gb": round(peak, 2),
            "f1": None
            if WAYS[name]
            else round(f1(read_mask(folder / f"{name}-1/mask.tif"), label), 1),
        }


def draw(rows, side, path):
    """A bar for each way, with its speed."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 2.4), layout="constrained")
    ours = ["#1f77b4" if row["f1"] else "#999999" for row in rows]
    bars = axes.barh(
        [row["name"] for row in rows], [row["mpx_per_second"] for row in rows], color=ours
    )
    axes.bar_label(
        bars, [f"{row['mpx_per_second']:.2f}, {row['peak_gb']:.1f} GB" for row in rows], padding=4
    )
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(f"Mpx/s, two GeoTIFFs of {side} x {side} to a mask on disk; two CPU cores")
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data")
    parser.add_argument("--across", type=int, default=2, help="N x N scenes make one.")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--map", type=Path, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.map:
        *pair, output = options.map
        return as_in_a_notebook(pair, output, options.way)
    if options.prepare:
        return prepare(options)
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: what this one has in memory would count for those it starts.
        subprocess.run([sys.executable, *sys.argv, "--prepare", folder], check=True)
        with rasterio.open(Path(folder) / "0.tif") as raster:
            side = raster.width
        rows = [*measure(options, Path(folder))]
    for row in rows:
        told = "no F1: random weights" if row["f1"] is None else f"F1 {row['f1']:.1f}"
        print(
            "{name}: {seconds:.1f} s, {mpx_per_second:.2f} Mpx/s, {peak_gb:.2f} GB".format(**row),
            told,
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))
    if options.figure:
        draw(rows, side, options.figure)
    return None


if __name__ == "__main__":
    main()

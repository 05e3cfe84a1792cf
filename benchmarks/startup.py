"""What each command costs before it works: processor seconds and peak memory.

    python benchmarks/startup.py [--against SRC] [--only TEXT]

Every command is a process of its own, run several times; the least is printed, as nothing else
in a process makes it faster. ``--against`` is the folder ``src`` of another checkout, whose
commands take turns with these, for a ratio within one run.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path

TURNS = 3
NUMBERS = count()
HERE = Path(__file__).parents[1] / "src"
COMMANDS = {
    "import ctma": ["-c", "import ctma"],
    "ctma --help": ["-m", "ctma", "--help"],
    "ctma --version": ["-m", "ctma", "--version"],
    "ctma recipes": ["-m", "ctma", "recipes"],
    "ctma info ctma-s": ["-m", "ctma", "info", "ctma-s"],
    "ctma check DATA": ["-m", "ctma", "check", "data"],
    "ctma prepare --help": ["-m", "ctma", "prepare", "--help"],
    "ctma train --help": ["-m", "ctma", "train", "--help"],
    "ctma predict, 64 x 64": [
        "-m", "ctma", "predict", "data/test/A", "data/test/B", "-o", "out-{turn}",
    ],
    "ctma predict, rasters": ["-m", "ctma", "predict", "1.tif", "2.tif", "-o", "map-{turn}"],
    "ctma explain": [
        "-m", "ctma", "explain", "data/test/A/test_0000.png", "data/test/B/test_0000.png",
        "--checkpoint", "ctma-s", "-o", "sheet.png",
    ],
    "ctma eval, 1 pair": ["-m", "ctma", "eval", "ctma-s", "--data", "data"],
    "ctma calibrate, 4 pairs": [
        "-m", "ctma", "calibrate", "ctma-s", "--data", "data", "-o", "c.safetensors",
    ],
    "ctma convert --half": ["-m", "ctma", "convert", "ctma-s", "half.safetensors", "--half"],
    "ctma train, a step": [
        "-m", "ctma", "train", "demo/ctma-s", "--data", "data", "-o", "run-{turn}", "--precision",
        "float32", "--set", "trainer.epochs=1", "--set", "data.crop_size=64", "--set",
        "data.workers=0",
    ],
}  # fmt: skip
PAIRS = {"train": 4, "val": 4, "test": 1}


def prepare(folder):
    """Pairs, and one of them as rasters, in ``folder``."""
    import rasterio
    from rasterio.transform import from_origin

    from ctma.data.images import read_image
    from ctma.data.synthetic import write_synthetic

    write_synthetic(folder / "data", PAIRS, size=64)
    place = {"crs": "EPSG:32643", "transform": from_origin(500_000, 4_000_000, 0.5, 0.5)}
    shape = {"count": 3, "height": 64, "width": 64, "dtype": "uint8"}
    for name, date in (("1", "A"), ("2", "B")):
        pixels = read_image(folder / "data/test" / date / "test_0000.png").transpose(2, 0, 1)
        path = folder / f"{name}.tif"
        with rasterio.open(path, "w", driver="GTiff", **shape, **place) as raster:
            raster.write(pixels)


def cost(command, source, folder):
    """Exit code, processor seconds and peak gigabytes of one process."""
    # Packages of a machine with a GPU lie beside the code (accelerator.sh).
    paths = f"{source}{os.pathsep}{os.environ.get('PYTHONPATH', '')}".strip(os.pathsep)
    environment = os.environ | {"PYTHONPATH": paths}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, *command], cwd=folder, env=environment, **quiet)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6


def least(name, sources, folder):
    """Of several turns: (seconds, gigabytes) for each source, ``None`` where there is no such."""
    found = [[] for _ in sources]
    for _ in range(TURNS):
        for costs, source in zip(found, sources, strict=True):
            command = [part.format(turn=next(NUMBERS)) for part in COMMANDS[name]]
            code, *numbers = cost(command, source, folder)
            if code == 0:
                costs.append(numbers)
    return [tuple(map(min, zip(*costs, strict=True))) if costs else None for costs in found]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="The folder src of another checkout.")
    parser.add_argument("--only", default="", help="Commands whose names hold this text.")
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare:
        prepare(options.prepare)
        return
    sources = [HERE] + ([options.against.resolve()] if options.against else [])
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: what this one has in memory would count for those it starts.
        subprocess.run([sys.executable, __file__, "--prepare", folder], check=True)
        for name in (name for name in COMMANDS if options.only in name):
            texts = [
                "-" if one is None else f"{one[0]:.2f} s, {one[1]:.2f} GB"
                for one in least(name, sources, folder)
            ]
            print(f"{name:24} {'   against '.join(texts)}", flush=True)


if __name__ == "__main__":
    main()

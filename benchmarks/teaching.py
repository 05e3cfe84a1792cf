"""Which places to label first: the order of `ctma review --order learn` against chance.

    python benchmarks/teaching.py --shared DIR -o FOLDER

Pairs of Europe (``places/europe``) are mapped by the shipped weights. A reviewer then labels the
first N places of the page, or N places drawn by chance; the truth is the label. Around each place
the reviewer sees the window that the page shows, and nothing else has a label. The last layers
learn from these labels beside LEVIR-CD. Printed is F1 on pairs that were not reviewed. The question
is how many places of one order give what N places of the other give. A second run does only what
is missing.
"""

import argparse
import json
import random
import shutil
from pathlib import Path

import numpy as np
import rasterio

from ctma import load_model, predict_files
from ctma.adaptation.learning import Learning, Source, learn
from ctma.adaptation.scores import Setting, look
from ctma.data.pairs import find_coding, read_change
from ctma.data.readers import find_pairs
from ctma.inference.predictor import Predictor, Running
from ctma.review.changes import shown_window
from ctma.review.maps import open_map
from ctma.review.teaching import rank_by_teaching
from ctma.types import IGNORED

TESTS = 6


def split(pairs, seed):
    order = np.random.default_rng(100 + seed).permutation(len(pairs))
    return [pairs[i] for i in order[:TESTS]], [pairs[i] for i in order[TESTS:]]


def map_pool(folder, pool, checkpoint):
    for pair in pool:
        for kind, path in (("A", pair.before), ("B", pair.after)):
            target = folder / "pool" / kind / f"{pair.name}{path.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    predict_files(folder / "pool/A", folder / "pool/B", checkpoint, folder / "map")


def choose(folder, order, seed):
    """Names of the pair, and windows, of all places in an order."""
    with open_map(folder / "map") as reviewed:
        ranked = rank_by_teaching(reviewed)
        if order == "chance":
            random.Random(seed).shuffle(ranked)
        for change in ranked:
            place = reviewed.places[change.place]
            window, _ = shown_window(change.outline.bounds, (place.width, place.height))
            yield place.name, window


def write_labels(folder, pool, places):
    """A split of the pairs with a label; what was not shown has the nodata value."""
    coding = find_coding(pool)
    shutil.rmtree(folder, ignore_errors=True)
    for pair in pool:
        shown = [window for name, window in places if name == pair.name]
        if not shown:
            continue
        truth = read_change(pair.change, coding)
        label = np.full(truth.shape, IGNORED, np.uint8)
        for window in shown:
            area = window.toslices()
            label[area] = truth[area]
        for kind, path in (("A", pair.before), ("B", pair.after)):
            target = folder / kind / f"{pair.name}{path.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        target = folder / "label" / f"{pair.name}.tif"
        target.parent.mkdir(parents=True, exist_ok=True)
        profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": IGNORED}
        height, width = label.shape
        with rasterio.open(target, "w", height=height, width=width, **profile) as raster:
            raster.write(label[None])
    return find_pairs(folder, "all")


def measure(options, seed, order, count):
    shared, folder = options.shared, options.output / str(seed)
    test, pool = split(find_pairs(shared / "places/europe", "test"), seed)
    if not (folder / "map").is_dir():
        map_pool(folder, pool, options.checkpoint)
    places = [*choose(folder, order, seed)][:count]
    labelled = write_labels(folder / f"{order}-{count}", pool, places)
    network = load_model(options.checkpoint)
    setting = Setting.of(network.usage)
    former = find_pairs(shared / "levir_cd_05m", "train")
    learn(
        network, Source(labelled, network.usage), Source(former, network.usage, focus=0.0),
        Learning(steps=options.steps, seed=seed), seconds=3600,
    )  # fmt: skip
    seen = look(Predictor(network, Running(engine="exact", precision="float32")), test, None)
    return {"f1": round(seen.f1(setting), 2), "pairs": len(labelled)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--checkpoint", default="ctma-lite")
    parser.add_argument("--places", nargs="+", type=int, default=[7, 10, 20, 14, 28, 40])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "results.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    done = {tuple(json.loads(line)["cell"]) for line in lines}
    for count in options.places:
        for seed in options.seeds:
            for order in ("learn", "chance"):
                if (seed, order, count) not in done:
                    found = {"cell": [seed, order, count], **measure(options, seed, order, count)}
                    print(json.dumps(found), flush=True)
                    with file.open("a") as out:
                        out.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()

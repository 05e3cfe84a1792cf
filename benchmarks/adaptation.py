"""What `ctma adapt` gains at a place, and what it costs elsewhere.

    python benchmarks/adaptation.py --shared DIR -o FOLDER [--places europe] [--scenes 5 10]

Places: Europe (pairs of 650 x 650) and New Zealand (512 x 512) of ``places/``, and SVCD (four
pairs of 256 x 256 make a scene). For each seed, some scenes are the test and never seen. The
others are corrected one by one: their labels are the truth. A fifth of the corrected scenes, and
at least two, is held out by `ctma adapt`. Scenes of Europe are cut into four tiles. Printed is F1
on the test: of the old weights, of a new threshold alone, after learning, after learning whatever
it costs elsewhere (whole) and without former data (alone), with the time; and F1 on the validation
of LEVIR-CD, the data elsewhere. ``imagenet`` is a training from ImageNet's weights on the corrected
scenes alone. A second run does only what is missing.
"""

import argparse
import json
import time
from itertools import product
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ctma import evaluate, load, load_recipe, train
from ctma.adaptation.adapt import adapt
from ctma.adaptation.learning import Learning
from ctma.adaptation.settings import AdaptationSettings
from ctma.data.pairs import find_coding, read_change
from ctma.data.readers import find_pairs
from ctma.errors import CtmaError
from ctma.evaluation.scoring import Scoring

PLACES = {
    "europe": ("places/europe", "test", None, 6, 1),
    "new_zealand": ("places/new_zealand", "test", 0.2, 3, 1),
    "svcd": ("svcd", "train", None, 30, 4),
}
"""Folder, split, metres a pixel, scenes of the test, pairs of a scene."""


IMAGENET = (
    "data.sources=[{folder: ., zoom: [0.8, 1.25]}]", "data.draws=640", "data.repeats=1",
    "data.batch_size=8", "data.workers=0", "trainer.epochs=4", "trainer.average=0.99",
)  # fmt: skip


def scenes_of(shared, place):
    """Scenes as lists of pairs."""
    folder, split, _, _, size = PLACES[place]
    pairs = find_pairs(shared / folder, split)
    return [pairs[start : start + size] for start in range(0, len(pairs) - size + 1, size)]


def write(folder, split, pairs):
    coding = find_coding(pairs)
    for pair in pairs:
        for kind, path in (("A", pair.before), ("B", pair.after), ("label", pair.change)):
            target = folder / split / kind / f"{pair.name.replace('/', '-')}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            image = Image.open(path)
            if kind == "label":  # of a JPEG, too
                image = Image.fromarray(np.uint8(255) * (read_change(path, coding) == 1))
            width, height = image.size
            if split == "test" or width <= 512:
                image.save(target)
                continue
            for number, (left, top) in enumerate(product((0, width // 2), (0, height // 2))):
                box = (left, top, left + width // 2, top + height // 2)
                image.crop(box).save(target.with_stem(f"{target.stem}_{number}"))


def changed(scene):
    coding = find_coding(scene)
    return sum(int((read_change(pair.change, coding) == 1).sum()) for pair in scene)


def lay_out(folder, shared, place, seed, count):
    """The data of a cell: test, train and val; the order is that of a seed."""
    scenes = scenes_of(shared, place)
    order = np.random.default_rng(100 + seed).permutation(len(scenes))
    tests = PLACES[place][3]
    test, pool = order[:tests], order[tests : tests + count]
    if len(pool) < count:
        return None
    # Held out is a fifth, at least two scenes, of those that show change.
    shown = [index for index in pool if changed(scenes[index])]
    number = max(2, count // 5)
    held = set(shown[:: max(1, len(shown) // number)][:number])
    for split, chosen in (
        ("test", test), ("val", held), ("train", [one for one in pool if one not in held]),
    ):  # fmt: skip
        write(folder, split, [pair for index in chosen for pair in scenes[index]])
    return folder


def score(checkpoint, data, split, distance, folder):
    predictor = load(checkpoint, engine="eager", precision="bf16")
    scoring = Scoring(protocol="whole", ground_sample_distance=distance)
    result = evaluate(predictor, data, split, scoring, output=folder / "score.json", overwrite=True)
    return round(100 * result.record.scores.f1, 2)


def train_from_imagenet(data, output, distance):
    """A network that saw nothing but ImageNet and the corrected scenes: 320 steps of 8 crops."""
    given = [f"data.ground_sample_distance={distance or 'null'}"]
    recipe = load_recipe("shipped/ctma-lite-start", [*IMAGENET, *given])
    return train(recipe, data, output, device="cpu", precision="auto").best


def measure(options, place, seed, count, way, learning):
    folder = options.output / f"{place}-{seed}-{count}"
    data, distance = folder / "data", PLACES[place][2]
    if not data.is_dir() and lay_out(data, options.shared, place, seed, count) is None:
        return None
    levir = options.shared / "levir_cd_05m"
    if way == "old":
        checkpoint, took, said = options.checkpoint, 0.0, {}
    elif way == "imagenet":
        start = time.monotonic()
        checkpoint, said = train_from_imagenet(data, folder / way, distance), {}
        took = time.monotonic() - start
    else:
        settings = AdaptationSettings(
            calibrate_only=way == "threshold", learning=learning,
            most_loss=100 if way == "whole" else options.most_loss,
            ground_sample_distance=distance,
        )  # fmt: skip
        start = time.monotonic()
        try:
            result = adapt(
                options.checkpoint, data, folder / way, settings, overwrite=True,
                rehearse=None if way == "alone" else levir,
            )  # fmt: skip
        except CtmaError as error:
            return {"refused": str(error)}
        took, checkpoint = time.monotonic() - start, result.checkpoint
        said = {
            "here": str(result.here), "share": result.share, "bytes": result.bytes,
            "threshold": result.setting.threshold,
        }  # fmt: skip
    return {
        "test": score(checkpoint, data, "test", distance, folder),
        "levir": score(checkpoint, levir, "val", None, folder),
        "seconds": round(took, 1),
        **said,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--checkpoint", default="ctma-lite")
    parser.add_argument("--places", nargs="+", default=["europe", "new_zealand"])
    parser.add_argument("--scenes", nargs="+", type=int, default=[5, 10])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", default=["old", "threshold", "learned"])
    parser.add_argument("--most-loss", type=float, default=0.5)
    parser.add_argument("--set", nargs="*", default=[], help="fields of Learning, as name=value")
    parser.add_argument("--name", default="", help="a name for other settings")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    fields = dict(one.split("=") for one in options.set)
    kinds = {name: type(value) for name, value in Learning()}
    learning = Learning(**{name: kinds[name](value) for name, value in fields.items()})
    print(torch.get_num_threads(), "threads", flush=True)
    file = options.output / "results.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    done = {tuple(json.loads(line)["cell"]) for line in lines}
    for count in options.scenes:
        for seed in options.seeds:
            for place in options.places:
                for way in options.ways:
                    cell = [place, count, seed, way + options.name]
                    if tuple(cell) in done:
                        continue
                    found = measure(options, place, seed, count, way, learning)
                    if found is not None:
                        line = json.dumps({"cell": cell, **found})
                        print(line, flush=True)
                        with file.open("a") as out:
                            out.write(line + "\n")


if __name__ == "__main__":
    main()

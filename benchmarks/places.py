"""F1 of checkpoints at places: at their own threshold, and at the best one of each place.

    python benchmarks/places.py --shared DIR MODEL [MODEL …] [--tta]

Whole images. The distance is told in one row, and not told in the next. Europe and New Zealand are
elsewhere: nothing shipped ever learned from them. They are so small that F1 changes by up to 8
points where all pairs are mirrored. So their pairs are seen in all eight orientations: F1 over all
of them, then in brackets the best F1 and its threshold, then the least and the largest F1 of an
orientation.

The other rows are validation splits, as they are: every third pair of LEVIR-CD and every second of
SVCD.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from PIL import Image

from ctma import load
from ctma.data.pairs import Pair
from ctma.data.readers import find_pairs
from ctma.evaluation.metrics import sum_scores
from ctma.evaluation.scoring import Scoring, score_pairs
from ctma.evaluation.tally import Tally

ORIENTATIONS = (None, *Image.Transpose)


class Place(NamedTuple):
    """Where pairs lie, which of them count, the distances to tell, and whether pairs are turned."""

    folder: str
    split: str
    every: int
    metres: tuple[float | None, ...]
    turned: bool


PLACES = {
    "Europe": Place("places/europe", "test", 1, (0.4, None), True),
    "New Zealand": Place("places/new_zealand", "test", 1, (0.2, None), True),
    "LEVIR-CD": Place("levir_cd_05m", "val", 3, (None,), False),
    "SVCD": Place("svcd", "val", 2, (None,), False),
}


def turn(pair, orientation, folder):
    """A pair in another orientation, written to a folder of its own; for flat names, PNG labels."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for role in ("before", "after", "change"):
        image = Image.open(getattr(pair, role))
        paths.append(folder / f"{pair.name}_{role}.png")
        turned = image if orientation is None else image.transpose(orientation)
        turned.save(paths[-1], compress_level=1)
    return Pair(f"{folder.name}/{pair.name}", *paths)


def gather(place, shared, folder):
    """The pairs of a place, in eight orientations where the place is turned."""
    pairs = find_pairs(shared / place.folder, place.split)[:: place.every]
    if not place.turned:
        return pairs
    return [
        turn(pair, orientation, folder / str(number))
        for number, orientation in enumerate(ORIENTATIONS)
        for pair in pairs
    ]


def spread(tally):
    """The least and the largest F1 of an orientation."""
    counted = defaultdict(list)
    for pair in tally.pairs:
        counted[pair.name.split("/")[0]].append(pair.pixels)
    found = [sum_scores(scores).f1 for scores in counted.values()]
    return min(found), max(found)


def score(model, pairs, metres, tta, turned):
    """A cell of the table: F1 at the checkpoint's threshold, the best F1, and the spread."""
    predictor, tally = load(model, tta=tta), Tally()
    told = metres if predictor.usage.ground_sample_distance else None
    scoring = Scoring(protocol="whole", ground_sample_distance=told)
    own = score_pairs(predictor, pairs, scoring, on_pair=tally).f1
    best, threshold = max((tally.histogram.f1(one), one) for one in np.linspace(0.01, 0.99, 99))
    cell = f"{100 * own:.1f} ({100 * best:.1f} at {threshold:.2f})"
    if turned:
        cell += " {:.0f} to {:.0f}".format(*(100 * f1 for f1 in spread(tally)))
    return cell


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--tta", action="store_true")
    options = parser.parse_args()
    print("| place |", " | ".join(Path(model).stem for model in options.models), "|")
    for name, place in PLACES.items():
        with TemporaryDirectory() as folder:
            pairs = gather(place, options.shared, Path(folder))
            for metres in place.metres:
                row = [
                    score(model, pairs, metres, options.tta, place.turned)
                    for model in options.models
                ]
                label = name if metres == place.metres[0] else f"{name}, not told"
                print(f"| {label} |", " | ".join(row), "|", flush=True)


if __name__ == "__main__":
    main()

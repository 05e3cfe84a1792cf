"""F1 of checkpoints at places: at their own threshold, and at the best one of each place.

    python benchmarks/places.py --shared DIR MODEL [MODEL …] [--tta]

Whole images. The distance is told in one row, and not told in the next. Europe and New Zealand are
elsewhere: nothing shipped ever learned from them. The other rows are validation splits: every
third pair of LEVIR-CD and every second of SVCD.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ctma import load
from ctma.data.readers import find_pairs
from ctma.evaluation.scoring import Scoring, score_pairs
from ctma.evaluation.tally import Tally


class Place(NamedTuple):
    """Where pairs lie, which of them count, and their metres a pixel."""

    folder: str
    split: str
    every: int
    metres: float | None


PLACES = {
    "Europe": Place("places/europe", "test", 1, 0.4),
    "Europe, not told": Place("places/europe", "test", 1, None),
    "New Zealand": Place("places/new_zealand", "test", 1, 0.2),
    "New Zealand, not told": Place("places/new_zealand", "test", 1, None),
    "LEVIR-CD": Place("levir_cd_05m", "val", 3, None),
    "SVCD": Place("svcd", "val", 2, None),
}


def score(model, place, shared, tta):
    """F1 at the checkpoint's own threshold, the best F1, and its threshold."""
    predictor, tally = load(model, tta=tta), Tally()
    pairs = find_pairs(shared / place.folder, place.split)[:: place.every]
    metres = place.metres if predictor.usage.ground_sample_distance else None
    scoring = Scoring(protocol="whole", ground_sample_distance=metres)
    own = score_pairs(predictor, pairs, scoring, on_pair=tally).f1
    best, threshold = max((tally.histogram.f1(one), one) for one in np.linspace(0.01, 0.99, 99))
    return 100 * own, 100 * best, threshold


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--tta", action="store_true")
    options = parser.parse_args()
    print("| place |", " | ".join(Path(model).stem for model in options.models), "|")
    for name, place in PLACES.items():
        row = [score(model, place, options.shared, options.tta) for model in options.models]
        cells = [f"{own:.1f} ({best:.1f} at {threshold:.2f})" for own, best, threshold in row]
        print(f"| {name} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()

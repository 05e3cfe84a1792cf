"""Scores pair by pair, for spreads over scenes, object scores and precision-recall curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ctma.evaluation.logits import LogitHistogram
from ctma.evaluation.metrics import Scores
from ctma.evaluation.objects import ObjectScores, score_objects
from ctma.evaluation.scoring import Judged
from ctma.types import IGNORED, Pixels

CURVE_POINTS = 161


@dataclass(frozen=True)
class PairScore:
    """The counts of one pair.

    Attributes:
        name: The pair's name.
        pixels: Counts of pixels.
        objects: Counts of objects.
    """

    name: str
    pixels: Scores
    objects: ObjectScores

    @classmethod
    def of(cls, name: str, mask: Pixels, change: Pixels) -> PairScore:
        """Scores a mask, (H, W), 0 or 1, against a label: 0, 1 or ``IGNORED``."""
        labelled = change != IGNORED
        claimed, true = (mask == 1) & labelled, change == 1
        pixels = Scores(
            true_positive=int((claimed & true).sum()),
            false_positive=int((claimed & ~true).sum()),
            false_negative=int((~claimed & true).sum()),
            true_negative=int((~claimed & ~true & labelled).sum()),
        )
        return cls(name, pixels, score_objects(claimed, true))

    def as_dict(self) -> dict[str, Any]:
        """Plain values by name."""
        return {"name": self.name, **asdict(self.pixels), **self.objects.as_dict()}


class Tally:
    """Counts every judged pair; for ``score_pairs(on_pair=…)``."""

    def __init__(self) -> None:
        self.pairs: list[PairScore] = []
        self.histogram = LogitHistogram()

    def __call__(self, judged: Judged) -> None:
        """Counts one pair."""
        self.pairs.append(PairScore.of(judged.pair.name, judged.mask, judged.change))
        self.histogram.add(judged.probability, judged.change)

    def as_dict(self) -> dict[str, Any]:
        """Pairs and the curve, as records hold them."""
        return describe(self.pairs) | {"curve": self.curve()}

    def curve(self) -> list[tuple[float, float]]:
        """Recall and precision at thresholds from low to high, in even steps of recall."""
        still, changed = (np.cumsum(counts[::-1])[::-1] for counts in self.histogram.counts)
        if not changed[0]:
            return []
        recall = changed / changed[0]
        levels = np.linspace(1, 0, CURVE_POINTS)
        first = np.searchsorted(-recall, -levels)
        # For each recall, the thresholds with the most and with the fewest claimed pixels.
        places = np.concatenate([first, np.searchsorted(-recall, -levels, side="right") - 1])
        return [
            (float(recall[place]), float(changed[place] / claimed))
            for place in np.unique(places[places < len(recall)])
            if (claimed := changed[place] + still[place])
        ]


def describe(pairs: Sequence[PairScore]) -> dict[str, Any]:
    """The scores of pairs for a record: object scores over all pairs, and each pair's counts."""
    objects = sum((pair.objects for pair in pairs), ObjectScores())
    ratios = {name: getattr(objects, name) for name in ("precision", "recall", "f1")}
    return {
        "objects": objects.as_dict() | ratios,
        "per_pair": [pair.as_dict() for pair in pairs],
    }

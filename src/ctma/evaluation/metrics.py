"""Scores of the change class from one confusion matrix over all pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

import torch
from torch import Tensor
from torchmetrics.classification import BinaryConfusionMatrix

from ctma.types import IGNORED


@dataclass(frozen=True)
class Scores:
    """Counts of pixels and their scores; a ratio with a denominator of 0 is 0.

    Attributes:
        true_positive: Change found.
        false_positive: Change claimed where there is none.
        false_negative: Change missed.
        true_negative: No change, and none claimed.
    """

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def precision(self) -> float:
        """Share of the claimed change that is change."""
        return ratio(self.true_positive, self.true_positive + self.false_positive)

    @property
    def recall(self) -> float:
        """Share of the change that was found."""
        return ratio(self.true_positive, self.true_positive + self.false_negative)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        wrong = self.false_positive + self.false_negative
        return ratio(2 * self.true_positive, 2 * self.true_positive + wrong)

    @property
    def iou(self) -> float:
        """Intersection over union of the change class."""
        wrong = self.false_positive + self.false_negative
        return ratio(self.true_positive, self.true_positive + wrong)

    @property
    def accuracy(self) -> float:
        """Overall accuracy: share of correctly classified pixels."""
        return ratio(self.true_positive + self.true_negative, self.pixels)

    @property
    def kappa(self) -> float:
        """Cohen's kappa: agreement beyond chance."""
        claimed = self.true_positive + self.false_positive
        true = self.true_positive + self.false_negative
        by_chance = claimed * true + (self.pixels - claimed) * (self.pixels - true)
        return ratio(
            self.pixels * (self.true_positive + self.true_negative) - by_chance,
            self.pixels**2 - by_chance,
        )

    @property
    def pixels(self) -> int:
        """All pixels that were scored."""
        return sum(asdict(self).values())

    def as_dict(self) -> dict[str, float | int]:
        """Ratios and counts by name."""
        ratios = ("precision", "recall", "f1", "iou", "accuracy", "kappa")
        return {name: getattr(self, name) for name in ratios} | asdict(self)


def sum_scores(scores: Iterable[Scores]) -> Scores:
    """The scores over all pixels of several scores."""
    counts = [asdict(one) for one in scores]
    return Scores(
        **{field.name: sum(one[field.name] for one in counts) for field in fields(Scores)}
    )


class ConfusionMatrix(BinaryConfusionMatrix):
    """The confusion matrix over all pixels, summed over processes when scores are taken.

    Args:
        threshold: A pixel is change if its probability exceeds the threshold.
    """

    def __init__(self, threshold: float):
        # This class applies the threshold itself, so that all protocols threshold alike.
        super().__init__(validate_args=False)
        self.change_threshold = threshold

    def update(self, probability: Tensor, change: Tensor) -> None:
        """Counts pixels: probability in [0, 1], and change (0, 1 or ``IGNORED``) of its shape."""
        labelled = change != IGNORED
        claimed = (probability > self.change_threshold)[labelled]
        super().update(claimed.int(), change[labelled].int())

    def scores(self) -> Scores:
        """Scores over everything counted so far, in all processes."""
        matrix: list[list[int]] = self.compute().to(torch.int64).tolist()
        (true_negative, false_positive), (false_negative, true_positive) = matrix
        return Scores(true_positive, false_positive, false_negative, true_negative)


def ratio(above: int, below: int) -> float:
    """The quotient of two counts; 0 if the denominator is 0."""
    return above / below if below else 0.0

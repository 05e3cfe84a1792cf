"""Whether the probability of an object is right: of objects said 0.8, 80 % should be change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from ctma.inference.certainty import scale_objects
from ctma.models.usage import Usage
from ctma.types import IGNORED

if TYPE_CHECKING:
    from ctma.evaluation.scoring import Judged

RIGHT = 0.5
"""Share of an object's pixels that must be change, so that the object is right."""

BINS = 10

LEAST_LABELLED = 0.5
"""Share of an object's pixels that need a label, so that the object counts."""

LEAST_OF_EACH = 20
"""Smallest number of right and of wrong objects for a fit."""


@dataclass
class ObjectTally:
    """Objects of masks: what is said of them, and whether they are right.

    Attributes:
        said: Mean probability of each object's pixels.
        right: Whether the object is change.
    """

    said: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)

    def add(self, one: Judged) -> None:
        """Counts the objects of a pair's mask, but for those that mostly have no label."""
        objects, count = ndimage.label(one.mask)
        if count == 0:
            return
        numbers = np.arange(1, count + 1)
        labelled = one.change != IGNORED
        known = numbers[ndimage.mean(labelled, objects, numbers) >= LEAST_LABELLED]
        if known.size:
            self.said += ndimage.mean(one.probability, objects, known).tolist()
            shares = ndimage.mean(one.change == 1, np.where(labelled, objects, 0), known)
            self.right += (shares >= RIGHT).tolist()

    def scaled(self, usage: Usage) -> ObjectTally:
        """The same objects with the probability that a network gives objects."""
        said = scale_objects(self.said, usage.object_temperature, usage.object_offset)
        return ObjectTally(said.tolist(), self.right)

    @property
    def enough(self) -> bool:
        """Whether there are enough right and wrong objects for a fit."""
        return min(sum(self.right), len(self.right) - sum(self.right)) >= LEAST_OF_EACH

    def bins(self) -> list[tuple[float, float, int]]:
        """Of tenths of probability that hold objects: mean said, share right, number of objects."""
        said, right = np.array(self.said), np.array(self.right)
        number = np.minimum((said * BINS).astype(int), BINS - 1)
        return [
            (float(said[here].mean()), float(right[here].mean()), int(here.sum()))
            for one in range(BINS)
            if (here := number == one).any()
        ]

    def error(self) -> float:
        """Mean difference of what is said and what is right, over bins, weighted by objects."""
        bins = self.bins()
        total = sum(count for *_, count in bins)
        return sum(count * abs(said - right) for said, right, count in bins) / max(total, 1)

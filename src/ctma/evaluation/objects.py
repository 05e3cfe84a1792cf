"""Scores of whole objects: buildings found, missed and claimed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ctma.evaluation.metrics import ratio

LEAST_OVERLAP = 0.5
"""Least intersection over union at which two objects count as the same."""


@dataclass(frozen=True)
class ObjectScores:
    """Counts of objects and their scores; objects are regions of change joined by pixel edges.

    Attributes:
        found: Objects of the label that the mask shows.
        missed: Objects of the label that the mask does not show.
        false: Objects of the mask that the label does not have.
    """

    found: int = 0
    missed: int = 0
    false: int = 0

    def __add__(self, other: ObjectScores) -> ObjectScores:
        """The sum of both counts."""
        return ObjectScores(
            self.found + other.found, self.missed + other.missed, self.false + other.false
        )

    @property
    def precision(self) -> float:
        """Share of the objects of the mask that are in the label."""
        return ratio(self.found, self.found + self.false)

    @property
    def recall(self) -> float:
        """Share of the objects of the label that were found."""
        return ratio(self.found, self.found + self.missed)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return ratio(2 * self.found, 2 * self.found + self.missed + self.false)

    def as_dict(self) -> dict[str, int]:
        """Counts by name."""
        return asdict(self)


def score_objects(mask: NDArray[Any], change: NDArray[Any]) -> ObjectScores:
    """Counts the objects of a label that a mask shows, at an overlap of at least a half.

    Args:
        mask: (H, W), 0 or 1, or truth values.
        change: The label, as ``mask``.
    """
    claimed, claims = ndimage.label(mask)
    true, truths = ndimage.label(change)
    sizes = np.bincount(true.ravel()), np.bincount(claimed.ravel())
    both = (true > 0) & (claimed > 0)
    # A pair of objects is one number: numpy sorts columns of two numbers much more slowly.
    codes = true[both].astype(np.int64) * (claims + 1) + claimed[both]
    pairs, shared = np.unique(codes, return_counts=True)
    of_change, of_mask = np.divmod(pairs, claims + 1)
    either = sizes[0][of_change] + sizes[1][of_mask] - shared
    # Each object matches at most one other: two matches would fill the object, touch each
    # other, and so be one object.
    found = int((shared / either >= LEAST_OVERLAP).sum())
    return ObjectScores(found, truths - found, claims - found)

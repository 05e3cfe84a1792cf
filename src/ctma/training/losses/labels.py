"""Labels as losses take them: what is change, and which pixels count."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from ctma.types import IGNORED


class Labels(NamedTuple):
    """The labels of a batch.

    A loss multiplies by ``counts``, so pixels without a label change neither the loss nor any
    gradient, to the last bit.

    Attributes:
        change: (B, 1, H, W) float32: 1 for change; 0 for no change and where there is no label.
        counts: (B, 1, H, W) float32: 1 where there is a label, else 0.
    """

    change: Tensor
    counts: Tensor

    @classmethod
    def of(cls, change: Tensor) -> Labels:
        """The labels of a batch, (B, 1, H, W): 0, 1 or ``IGNORED``."""
        return cls((change == 1).float(), (change != IGNORED).float())

    @property
    def still(self) -> Tensor:
        """1 for no change; 0 for change and where there is no label."""
        return self.counts - self.change


def mean_entropy(logits: Tensor, labels: Labels, weight: Tensor | None = None) -> Tensor:
    """Binary cross-entropy, the mean over all pixels with a label; 0 without any.

    Args:
        logits: (B, 1, H, W).
        labels: The labels.
        weight: How many times a changed pixel counts; 1 by default.
    """
    total = F.binary_cross_entropy_with_logits(
        logits, labels.change, labels.counts, pos_weight=weight, reduction="sum"
    )
    return total / labels.counts.sum().clamp(min=1)

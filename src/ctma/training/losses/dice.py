"""Dice: how far two masks fail to overlap, as a part of losses."""

from __future__ import annotations

from torch import Tensor

from ctma.training.losses.labels import Labels


def soft_dice(logits: Tensor, labels: Labels) -> Tensor:
    """One minus the Dice coefficient of the probabilities over the whole batch."""
    probability = logits.sigmoid() * labels.counts
    overlap = (probability * labels.change).sum()
    return 1 - (2 * overlap + 1) / (probability.sum() + labels.change.sum() + 1)


def squared_dice(logits: Tensor, labels: Labels) -> Tensor:
    """One minus the squared Dice coefficient, averaged over images.

    As released with DSAMNet and DSIFN: squares in the denominator and no factor 2.
    """
    probability = (logits.sigmoid() * labels.counts).flatten(1)
    target = labels.change.flatten(1)
    overlap = (probability * target).sum(1)
    whole = probability.square().sum(1) + target.square().sum(1)
    return (1 - (overlap + 1) / (whole + 1)).mean()

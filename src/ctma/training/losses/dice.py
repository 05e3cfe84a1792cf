"""Dice: how far two masks fail to overlap, as a part of losses."""

from __future__ import annotations

from torch import Tensor


def soft_dice(logits: Tensor, target: Tensor) -> Tensor:
    """One minus the Dice coefficient of the probabilities over the whole batch."""
    probability = logits.sigmoid()
    overlap = (probability * target).sum()
    return 1 - (2 * overlap + 1) / (probability.sum() + target.sum() + 1)


def squared_dice(logits: Tensor, target: Tensor) -> Tensor:
    """One minus the squared Dice coefficient, averaged over images.

    As released with DSAMNet and DSIFN: squares in the denominator and no factor 2.
    """
    probability, target = logits.sigmoid().flatten(1), target.flatten(1)
    overlap = (probability * target).sum(1)
    whole = probability.square().sum(1) + target.square().sum(1)
    return (1 - (overlap + 1) / (whole + 1)).mean()

"""Deep supervision with equal weight for every output: the loss of DSIFN."""

from __future__ import annotations

import torch
from torch import Tensor

from ctma.models.base import ChangeLogits
from ctma.models.layers import resize_as
from ctma.training.losses.dice import squared_dice
from ctma.training.losses.labels import Labels, mean_entropy
from ctma.training.settings import DeepSettings


def deep_loss(logits: ChangeLogits, labels: Labels, settings: DeepSettings) -> Tensor:
    """The sum over all outputs of binary cross-entropy and Dice.

    Args:
        logits: The network's output; auxiliary logits are nearest-resized to H x W.
        labels: The labels.
        settings: Weight of Dice.

    Returns:
        A scalar, float32.
    """
    parts = [resize_as(part.float(), labels.change) for part in (logits.fine, *logits.auxiliary)]
    losses = [
        mean_entropy(part, labels) + settings.dice * squared_dice(part, labels) for part in parts
    ]
    return torch.stack(losses).sum()

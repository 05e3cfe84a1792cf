"""Deep supervision with equal weight for every output: the loss of DSIFN."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ctma.models.base import ChangeLogits
from ctma.models.layers import resize_as
from ctma.training.losses.dice import squared_dice
from ctma.training.settings import DeepSettings


def deep_loss(logits: ChangeLogits, change: Tensor, settings: DeepSettings) -> Tensor:
    """The sum over all outputs of binary cross-entropy and Dice.

    Args:
        logits: The network's output; auxiliary logits are nearest-resized to H x W.
        change: (B, 1, H, W), 0 or 1.
        settings: Weight of Dice.

    Returns:
        A scalar, float32.
    """
    target = change.float()
    parts = [resize_as(part.float(), target) for part in (logits.fine, *logits.auxiliary)]
    losses = [
        F.binary_cross_entropy_with_logits(part, target)
        + settings.dice * squared_dice(part, target)
        for part in parts
    ]
    return torch.stack(losses).sum()

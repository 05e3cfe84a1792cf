"""Binary cross-entropy of the final mask and of a coarse mask: the paper's loss."""

from __future__ import annotations

import torch
from torch import Tensor

from ctma.models.base import ChangeLogits
from ctma.models.layers import resize_as
from ctma.training.losses.dice import soft_dice
from ctma.training.losses.labels import Labels, mean_entropy
from ctma.training.settings import BCESettings


def bce_loss(logits: ChangeLogits, labels: Labels, settings: BCESettings) -> Tensor:
    """Binary cross-entropy of the fused logits, plus the weighted loss of the coarse logits.

    Args:
        logits: The network's output; auxiliary logits are nearest-resized to H x W.
        labels: The labels.
        settings: Weights; the defaults are the paper's.

    Returns:
        A scalar, float32.
    """
    still, changed = settings.class_weights
    weight = torch.tensor(changed / still, device=labels.change.device)

    def part(logits: Tensor, entropy: float, dice: float) -> Tensor:
        logits = resize_as(logits.float(), labels.change)
        loss = entropy * mean_entropy(logits, labels, weight)
        return loss + dice * soft_dice(logits, labels) if dice else loss

    loss = part(logits.fine, 1.0, settings.dice)
    for auxiliary in logits.auxiliary:
        loss = loss + part(auxiliary, settings.coarse, settings.coarse_dice)
    return loss

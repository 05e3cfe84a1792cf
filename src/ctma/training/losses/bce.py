"""Binary cross-entropy of the final mask and of a coarse mask: the paper's loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ctma.models.base import ChangeLogits
from ctma.models.layers import resize_as
from ctma.training.losses.dice import soft_dice
from ctma.training.settings import BCESettings


def bce_loss(logits: ChangeLogits, change: Tensor, settings: BCESettings) -> Tensor:
    """Binary cross-entropy of the fused logits, plus the weighted loss of the coarse logits.

    Args:
        logits: The network's output; auxiliary logits are nearest-resized to H x W.
        change: (B, 1, H, W), 0 or 1.
        settings: Weights; the defaults are the paper's.

    Returns:
        A scalar, float32.
    """
    target = change.float()
    still, changed = settings.class_weights
    weight = torch.tensor(changed / still, device=target.device)

    def part(logits: Tensor, entropy: float, dice: float) -> Tensor:
        logits = resize_as(logits.float(), target)
        loss = entropy * F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight)
        return loss + dice * soft_dice(logits, target) if dice else loss

    loss = part(logits.fine, 1.0, settings.dice)
    for auxiliary in logits.auxiliary:
        loss = loss + part(auxiliary, settings.coarse, settings.coarse_dice)
    return loss

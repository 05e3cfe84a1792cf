"""Contrastive loss on a distance between features, as in STANet and DSAMNet."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ctma.models.base import ChangeLogits
from ctma.models.layers import resize_as
from ctma.training.losses.dice import squared_dice
from ctma.training.settings import ContrastiveSettings


def contrastive_loss(logits: ChangeLogits, change: Tensor, settings: ContrastiveSettings) -> Tensor:
    """Pulls distances of unchanged pixels to 0, and pushes changed pixels beyond two margins.

    Changed and unchanged pixels have equal total weight, whatever their number (H. Chen, Z. Shi,
    Remote Sensing 12, 2020). Each auxiliary output adds Dice with half of the auxiliary weight.

    Args:
        logits: The network's output: distances minus the margin.
        change: (B, 1, H, W), 0 or 1.
        settings: Margin and weights.

    Returns:
        A scalar, float32.
    """
    target = change.float()
    distance = F.relu(logits.fine.float() + settings.margin)
    still = ((1 - target) * distance.square()).sum() / ((1 - target).sum() + 1e-4)
    short = F.relu(2 * settings.margin - distance)
    changed = (target * short.square()).sum() / (target.sum() + 1e-4)
    parts = [squared_dice(resize_as(part.float(), target), target) for part in logits.auxiliary]
    loss = (still + changed) / 2
    return loss + settings.auxiliary / 2 * torch.stack(parts).sum() if parts else loss

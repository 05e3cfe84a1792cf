"""Contrastive loss of a distance between features: that of STANet and DSAMNet."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ctma.models.base import ChangeLogits
from ctma.models.layers import resize_as
from ctma.training.losses.dice import squared_dice
from ctma.training.settings import ContrastiveSettings


def contrastive_loss(logits: ChangeLogits, change: Tensor, settings: ContrastiveSettings) -> Tensor:
    """Distances where nothing changed are drawn to 0, where something did beyond two margins.

    Both halves count alike, however many pixels they have (H. Chen, Z. Shi, Remote Sensing 12,
    2020). Auxiliary logits add half their weight in Dice each.

    Args:
        logits: What the network returned: distances less the margin.
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

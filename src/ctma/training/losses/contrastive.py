"""Contrastive loss on a distance between features, as in STANet and DSAMNet."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ctma.models.base import ChangeLogits
from ctma.models.layers import resize_as
from ctma.training.losses.dice import squared_dice
from ctma.training.losses.labels import Labels
from ctma.training.settings import ContrastiveSettings


def contrastive_loss(logits: ChangeLogits, labels: Labels, settings: ContrastiveSettings) -> Tensor:
    """Pulls distances of unchanged pixels to 0, and pushes changed pixels beyond two margins.

    Changed and unchanged pixels have equal total weight, whatever their number (H. Chen, Z. Shi,
    Remote Sensing 12, 2020). Each auxiliary output adds Dice with half of the auxiliary weight.

    Args:
        logits: The network's output: distances minus the margin.
        labels: The labels.
        settings: Margin and weights.

    Returns:
        A scalar, float32.
    """
    distance = F.relu(logits.fine.float() + settings.margin)
    still = (labels.still * distance.square()).sum() / (labels.still.sum() + 1e-4)
    short = F.relu(2 * settings.margin - distance)
    changed = (labels.change * short.square()).sum() / (labels.change.sum() + 1e-4)
    parts = [
        squared_dice(resize_as(part.float(), labels.change), labels) for part in logits.auxiliary
    ]
    loss = (still + changed) / 2
    return loss + settings.auxiliary / 2 * torch.stack(parts).sum() if parts else loss

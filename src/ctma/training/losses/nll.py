"""Negative log-likelihood of two classes; one logit holds the difference of the class logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ctma.models.base import ChangeLogits
from ctma.training.settings import NLLSettings


def nll_loss(logits: ChangeLogits, change: Tensor, settings: NLLSettings) -> Tensor:
    """The weighted log-softmax loss of two classes, divided by the sum of all pixels' weights.

    Args:
        logits: The network's output: the logit of change minus the logit of no change.
        change: (B, 1, H, W), 0 or 1.
        settings: Weights of the classes.

    Returns:
        A scalar, float32.
    """
    still, changed = settings.class_weights
    target = change.float()
    weight = torch.where(target == 1, changed, still)
    entropy = F.binary_cross_entropy_with_logits(logits.fine.float(), target, reduction="none")
    return (weight * entropy).sum() / weight.sum()

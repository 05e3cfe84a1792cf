"""Negative log-likelihood of two classes, of which one logit is the difference."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ctma.models.base import ChangeLogits
from ctma.training.settings import NLLSettings


def nll_loss(logits: ChangeLogits, change: Tensor, settings: NLLSettings) -> Tensor:
    """The log-softmax loss of two classes with weights, divided by the weights of all pixels.

    Args:
        logits: What the network returned; the change logit less that of stillness.
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

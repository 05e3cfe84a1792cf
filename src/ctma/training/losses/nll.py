"""Negative log-likelihood of two classes; one logit holds the difference of the class logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ctma.models.base import ChangeLogits
from ctma.training.losses.labels import Labels
from ctma.training.settings import NLLSettings


def nll_loss(logits: ChangeLogits, labels: Labels, settings: NLLSettings) -> Tensor:
    """The weighted log-softmax loss of two classes, divided by the sum of all pixels' weights.

    Args:
        logits: The network's output: the logit of change minus the logit of no change.
        labels: The labels.
        settings: Weights of the classes.

    Returns:
        A scalar, float32.
    """
    still, changed = settings.class_weights
    weight = torch.where(labels.change == 1, changed, still) * labels.counts
    total = F.binary_cross_entropy_with_logits(
        logits.fine.float(), labels.change, weight, reduction="sum"
    )
    return total / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)

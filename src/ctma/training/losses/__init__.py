"""The losses of training: one file per family, chosen by the recipe's ``loss.name``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ctma.models.base import ChangeLogits
from ctma.training.losses.bce import bce_loss
from ctma.training.losses.contrastive import contrastive_loss
from ctma.training.losses.deep import deep_loss
from ctma.training.losses.labels import Labels
from ctma.training.losses.nll import nll_loss
from ctma.training.settings import LossSettings

_FAMILIES: dict[str, Callable[[ChangeLogits, Labels, Any], Tensor]] = {
    "bce": bce_loss,
    "nll": nll_loss,
    "contrastive": contrastive_loss,
    "deep": deep_loss,
}


def change_loss(logits: ChangeLogits, change: Tensor, settings: LossSettings) -> Tensor:
    """The loss that a recipe asks for.

    Args:
        logits: The network's output.
        change: (B, 1, H, W): 0, 1 or ``IGNORED``; ignored pixels have no effect on the loss.
        settings: The recipe's loss part.

    Returns:
        A scalar, float32.
    """
    return _FAMILIES[settings.name](logits, Labels.of(change), settings)

"""Teachers: trained networks whose outputs a network learns, beside the labels."""

from __future__ import annotations

import torch
from torch import Tensor

from ctma.checkpoints.header import find_checkpoint, read_header
from ctma.data.dataset import to_unit_range
from ctma.errors import SettingError
from ctma.inference.predictor import load
from ctma.models.base import ChangeLogits
from ctma.training.losses.bce import bce_loss
from ctma.training.losses.labels import Labels
from ctma.training.settings import BCESettings, Recipe, TeacherSettings


class Teachers:
    """The teachers of a recipe, ready to look at batches.

    Args:
        settings: The recipe's teachers.
        device: The device that trains.
        precision: The precision of the training; the teachers compute in it too.
    """

    def __init__(self, settings: TeacherSettings, device: str, precision: str):
        self.settings = settings
        self.predictors = [
            load(path, device=device, precision=precision, tta=True)
            for path in settings.checkpoints
        ]

    @torch.no_grad()
    def __call__(self, plain: Tensor) -> Tensor:
        """The mean logits of all teachers, (B, 1, H, W), float32.

        Args:
            plain: Both dates of each pair with their plain look, (B, 2, C, H, W), 8-bit.
        """
        shares = self.settings.checkpoints.values()
        total = torch.zeros((), device=plain.device)
        for predictor, share in zip(self.predictors, shares, strict=True):
            dates = to_unit_range(plain, predictor.usage.scaling).unbind(1)
            with predictor.looking() as network:
                total = total + share / sum(shares) * network(*dates).fine.float()
        return total

    def loss(self, logits: ChangeLogits, plain: Tensor) -> Tensor:
        """The weighted loss of a network's final logits against the teachers' probability."""
        probability = self(plain).sigmoid()
        labels = Labels(probability, torch.ones_like(probability))
        entropy = BCESettings(dice=self.settings.dice)
        return self.settings.weight * bce_loss(ChangeLogits(logits.fine), labels, entropy)


def check_teachers(recipe: Recipe) -> None:
    """Refuses teachers that are not there, or that see other bands.

    Raises:
        CheckpointError: If a checkpoint is missing or is none.
        SettingError: If a teacher sees other bands than the network.
    """
    for path in recipe.teacher.checkpoints if recipe.teacher else ():
        header = read_header(find_checkpoint(path))
        if header.bands != recipe.data.bands:
            raise SettingError(
                f"`teacher.checkpoints` {path}: sees {', '.join(header.bands)}, and "
                f"`data.bands` is {', '.join(recipe.data.bands)}"
            )

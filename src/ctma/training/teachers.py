"""Teachers: trained networks whose outputs a network learns, beside the labels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ctma.checkpoints.header import find_checkpoint, read_header
from ctma.data.dataset import to_unit_range
from ctma.engines.exact import Exact
from ctma.errors import SettingError
from ctma.files import file_fingerprint
from ctma.inference.predictor import load
from ctma.inference.resolution import find_enlargement
from ctma.models.base import ChangeLogits
from ctma.models.usage import Usage
from ctma.training.losses.bce import bce_loss
from ctma.training.losses.labels import Labels
from ctma.training.settings import BCESettings, Recipe, TeacherSettings


class Teachers:
    """The teachers of a recipe, ready to look at batches.

    Torch runs the teachers, so that a training depends on no other engine.

    Args:
        settings: The recipe's teachers.
        device: The device that trains.
        precision: The precision of the training; the teachers compute in it too.
    """

    def __init__(self, settings: TeacherSettings, device: torch.device, precision: str):
        self.settings = settings
        # Lightning says mps:0, where ``load`` knows mps.
        place = str(device) if device.index else device.type
        self.predictors = [
            load(path, engine=Exact.name, device=place, precision=precision, tta=True)
            for path in settings.checkpoints
        ]

    @torch.no_grad()
    def __call__(self, plain: Tensor) -> Tensor:
        """The mean of all teachers' calibrated logits, (B, 1, H, W), float32.

        Args:
            plain: Both dates of each pair with their plain look, (B, 2, C, H, W), 8-bit.
        """
        shares = self.settings.checkpoints.values()
        total = torch.zeros((), device=plain.device)
        for predictor, share in zip(self.predictors, shares, strict=True):
            dates = to_unit_range(plain, predictor.usage.scaling).unbind(1)
            with predictor.looking() as network:
                logits = network.calibrated(network(*dates).fine)
            total = total + share / sum(shares) * logits
        return total

    def loss(self, logits: ChangeLogits, plain: Tensor) -> Tensor:
        """The weighted loss of a network's final logits against the teachers' probability."""
        probability = self(plain).sigmoid()
        labels = Labels(probability, torch.ones_like(probability))
        entropy = BCESettings(dice=self.settings.dice)
        return self.settings.weight * bce_loss(ChangeLogits(logits.fine), labels, entropy)


def fingerprint_teachers(recipe: Recipe) -> dict[str, str]:
    """The fingerprint of each teacher's file, by the teacher's name or path.

    Raises:
        CheckpointError: If a checkpoint is missing or is none.
    """
    return {path: file_fingerprint(find_checkpoint(path)) for path, _ in _headers(recipe)}


def check_teachers(recipe: Recipe, usage: Usage) -> None:
    """Refuses teachers that would see the training images otherwise than they were trained.

    Args:
        recipe: The recipe.
        usage: How the network takes the images.

    Raises:
        SettingError: If bands, ranges or ground sample distances differ.
    """
    for path, header in _headers(recipe):
        if header.bands != usage.bands:
            raise _differs(path, "bands", ", ".join(header.bands), ", ".join(usage.bands))
        if header.ranges != usage.ranges:
            raise _differs(path, "ranges", header.ranges, usage.ranges)
        if find_enlargement(header, usage.ground_sample_distance) != 1:
            metres = header.ground_sample_distance, usage.ground_sample_distance
            raise _differs(path, "metres a pixel", *metres)


def _headers(recipe: Recipe) -> Iterator[tuple[str, Usage]]:
    for path in recipe.teacher.checkpoints if recipe.teacher else ():
        yield path, read_header(path)


def _differs(path: str, what: str, teacher: object, training: object) -> SettingError:
    return SettingError(
        f"`teacher.checkpoints` {path}: was trained on other {what} ({teacher}) than this training "
        f"({training})"
    )

"""The Lightning module that trains a network."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR, ReduceLROnPlateau, StepLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ctma.data.dataset import Batch, to_unit_range
from ctma.errors import CheckpointError, SettingError
from ctma.evaluation.metrics import ConfusionMatrix, Scores
from ctma.inference.protocols import crops
from ctma.inference.views import see
from ctma.memory import keep_memory
from ctma.models.base import ChangeNetwork, check_logits
from ctma.models.layers import take_training_forms
from ctma.training.losses import change_loss
from ctma.training.losses.labels import Labels
from ctma.training.settings import OptimizerSettings, Recipe, ScheduleSettings
from ctma.training.teachers import Teachers


@dataclass(frozen=True)
class Start:
    """Where a training begins.

    Attributes:
        epoch: Number of epochs that are already done.
        optimizer: The optimizer's state after these epochs, ``None`` for a new optimizer.
    """

    epoch: int = 0
    optimizer: dict[str, Any] | None = None


class ChangeModule(pl.LightningModule):
    """Trains a network by a recipe and scores it on validation by the protocol ``crops``.

    Args:
        network: The network.
        recipe: The recipe.
        start: Where an earlier training stopped, unless a Lightning checkpoint holds its state.
    """

    validation_threshold = 0.5

    def __init__(self, network: ChangeNetwork, recipe: Recipe, start: Start | None = None):
        super().__init__()
        self.start = start or Start()
        self.network = network
        self.recipe = recipe
        self.average = _moving_average(network, recipe.trainer.average)
        self.confusion = ConfusionMatrix(self.validation_threshold)
        self.validation_scores: Scores | None = None
        self.teachers: Teachers | None = None

    @property
    def kept(self) -> ChangeNetwork:
        """The network that is validated and saved: the trained one, or its moving average."""
        if self.average is None:
            return self.network
        assert isinstance(self.average.module, ChangeNetwork)
        return self.average.module

    def on_fit_start(self) -> None:
        """Switches layers to their training forms and counts the epochs of an earlier training."""
        take_training_forms(self.network)
        if self.network.device.type == "cpu":
            keep_memory()
        if self.recipe.teacher is not None:
            precision = self.recipe.trainer.precision
            self.teachers = Teachers(self.recipe.teacher, self.device, precision)
        if self.start.epoch:
            progress = self.trainer.fit_loop.epoch_progress.current
            for count in ("ready", "started", "processed", "completed"):
                setattr(progress, count, self.start.epoch)

    def on_fit_end(self) -> None:
        """Switches layers back from their training forms."""
        take_training_forms(self.network, take=False)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seeds dropout at the start of each epoch, so that a resumed epoch drops the same."""
        if batch_idx == 0:
            where = f"{self.recipe.seed} {self.trainer.current_epoch} {self.trainer.global_rank}"
            torch.manual_seed(int.from_bytes(hashlib.sha256(where.encode()).digest()[:8]))

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Loss of one batch."""
        scaling = self.network.usage.scaling
        pair = (to_unit_range(images, scaling) for images in (batch.before, batch.after))
        logits = self.network(*pair)
        check_logits(self.network, logits, batch.before)
        loss = change_loss(logits, batch.change, self.recipe.loss)
        if self.teachers is not None:
            loss = loss + self.teachers.loss(logits, batch.plain)
        # No sync between processes: the progress bar reads the mean in the first process only.
        # With sync, the first process would wait for the others forever.
        rows = len(batch.change)
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"], batch_size=rows)
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=rows)
        return loss

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, *_: Any, **__: Any
    ) -> None:
        """Clips the norm of all gradients."""
        # Lightning's own clipping refuses fused optimizers in bf16, because they could undo
        # gradient scaling. But bf16 uses no gradient scaling.
        if gradient_clip_val is not None:
            weights = [one for group in optimizer.param_groups for one in group["params"]]
            torch.nn.utils.clip_grad_norm_(weights, gradient_clip_val)

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        """Takes an optimizer step and updates the moving average of the weights."""
        super().optimizer_step(*arguments, **named)
        if self.average is not None:
            self.average.update_parameters(self.network)

    def on_validation_epoch_start(self) -> None:
        """Copies the first process's batch statistics to all processes, so that all score alike."""
        if torch.distributed.is_initialized():
            for buffer in self.kept.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def validation_step(self, batches: list[Batch], _: int) -> dict[str, Tensor]:
        """Counts the pixels of some pairs and returns the probability of the first batch."""
        try:
            kept = partial(see, self.kept)
            probabilities = [crops(kept, batch.before, batch.after) for batch in batches]
        except CheckpointError as error:
            raise SettingError(
                "the training diverged, its outputs are no numbers; take a smaller `optimizer.lr`, "
                "or clip gradients by `trainer.clip`"
            ) from error
        for batch, probability in zip(batches, probabilities, strict=True):
            self.confusion.update(probability, batch.change)
            entropy = _cross_entropy(probability, batch.change)
            self.log("val_loss", entropy, batch_size=len(batch.change), sync_dist=True)
        return {"probability": probabilities[0]}

    def on_validation_epoch_end(self) -> None:
        """Computes the scores over all pixels of all processes."""
        self.validation_scores = self.confusion.scores()
        self.confusion.reset()
        for name in ("f1", "precision", "recall"):
            value = getattr(self.validation_scores, name)
            self.log(f"val_{name}", value, prog_bar=name == "f1", rank_zero_only=False)

    def configure_optimizers(self) -> Any:
        """The recipe's optimizer and schedule."""
        settings = self.recipe.optimizer
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.name]
        groups = _groups(self.network, settings)
        # A loaded optimizer state keeps its own `fused` setting. A fused step reads weights,
        # gradients and state by memory position, and an older state may have another layout.
        optimizer = kind(groups, weight_decay=settings.weight_decay, fused=True)
        if self.start.optimizer is not None:
            optimizer.load_state_dict(self.start.optimizer)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = learning_rates(optimizer, self.recipe.schedule, steps, self.start.epoch)
        interval = "step" if self.recipe.schedule.name == "one-cycle" else "epoch"
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": interval, "monitor": "val_f1"},
        }


def _groups(network: ChangeNetwork, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """All weights with their learning rates; a separate group if the backbone has its own rate.

    Raises:
        SettingError: If the network has no backbone.
    """
    if settings.backbone == 1:
        return [{"params": network.parameters(), "lr": settings.lr}]
    part = network.backbone_part
    if not part:
        raise SettingError(f"`optimizer.backbone`: {network.name} has none; leave it at 1")
    groups: dict[bool, list[Parameter]] = {False: [], True: []}
    for name, weight in network.named_parameters():
        groups[name.startswith(part)].append(weight)
    return [
        {"params": groups[False], "lr": settings.lr},
        {"params": groups[True], "lr": settings.lr * settings.backbone},
    ]


def _cross_entropy(probability: Tensor, change: Tensor) -> Tensor:
    """Mean binary cross-entropy, converted to float32 because autocast does not convert it."""
    labels = Labels.of(change)
    with torch.autocast(probability.device.type, enabled=False):
        total = F.binary_cross_entropy(
            probability.float(), labels.change, labels.counts, reduction="sum"
        )
        return total / labels.counts.sum().clamp(min=1)


def _moving_average(network: ChangeNetwork, decay: float | None) -> AveragedModel | None:
    if decay is None:
        return None
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    return average.requires_grad_(False)


def learning_rates(
    optimizer: Optimizer, settings: ScheduleSettings, total_steps: int, epoch: int = 0
) -> LRScheduler:
    """Creates the learning rate scheduler of a recipe.

    Args:
        optimizer: The optimizer. The schedule starts at the optimizer's learning rate;
            ``one-cycle`` takes this rate as the highest.
        settings: The recipe's schedule part.
        total_steps: Optimizer steps of the whole training, for ``one-cycle``.
        epoch: Number of epochs that are already done; ``step`` continues from there.

    Returns:
        A scheduler. Step ``one-cycle`` once per training step, and the others once per epoch.
        ``plateau`` takes the validation F1 at each step.
    """
    if settings.name == "step":
        if epoch:
            for group in optimizer.param_groups:
                drops = (epoch - 1) // settings.step_size
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * settings.gamma**drops
        return StepLR(optimizer, settings.step_size, settings.gamma, last_epoch=epoch - 1)
    if settings.name == "one-cycle":
        highest = [group["lr"] for group in optimizer.param_groups]
        # Torch divides by zero where the rise is one step long.
        rise = settings.warmup if settings.warmup * total_steps > 1 else 0.0
        return OneCycleLR(optimizer, highest, total_steps, pct_start=rise, cycle_momentum=False)
    if settings.name == "plateau":
        # Torch's patience counts the tolerated epochs without improvement.
        return ReduceLROnPlateau(optimizer, "max", settings.gamma, patience=settings.step_size - 1)
    return ConstantLR(optimizer, factor=1.0)

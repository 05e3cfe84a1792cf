"""The logs of a training: a table and TensorBoard."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from torch import Tensor
from torchvision.utils import make_grid

from ctma.data.dataset import Batch
from ctma.errors import extras
from ctma.training.settings import Recipe
from ctma.training.table import FOLDER, read_table
from ctma.types import Progress, Say, ignore

SHOWN_PAIRS, SHOWN_SIDE = 3, 192
"""Number of validation pairs in TensorBoard after each epoch, and their largest side in pixels."""


LINE_SECONDS = 55
"""Seconds without a line after which a training reports its progress."""


@dataclass(frozen=True)
class Logs:
    """What a training logs.

    Attributes:
        tables: Whether to write ``metrics.csv``.
        tensorboard: Whether to write TensorBoard logs as well.
        interval: Training steps between two lines.
        done: Number of epochs that are already done; their lines stay in the table.
    """

    tables: bool = True
    tensorboard: bool = True
    interval: int = 10
    done: int = 0

    def loggers(self, output: Path) -> list[Logger]:
        """The loggers of a run.

        Args:
            output: The run's folder; gets ``logs/``.

        Raises:
            MissingExtraError: If tensorboard is not installed.
        """
        if not self.tables:
            return []
        loggers: list[Logger] = [Table(output, FOLDER, version="", flush_logs_every_n_steps=1)]
        if self.tensorboard:
            with extras():
                import tensorboard  # noqa: F401  (Lightning does not name it where it is missing)
            board = TensorBoardLogger(output, FOLDER, version="", default_hp_metric=False)
            loggers.append(board)
        return loggers

    def begin(self, loggers: Iterable[Logger], output: Path, recipe: Recipe) -> None:
        """Restores the lines of earlier epochs and logs the recipe, in the first process only.

        Args:
            loggers: New loggers from ``loggers``, not used before.
            output: The run's folder.
            recipe: The recipe; its values are logged as hyper-parameters.
        """
        lines = [line for line in read_table(output) if line["epoch"] <= self.done]
        for logger in loggers:
            if isinstance(logger, Table):
                logger.put_back(lines)
            logger.log_hyperparams(recipe.model_dump(mode="json"))

    def callbacks(self) -> list[Callback]:
        """The callbacks that write to the loggers."""
        return [Pictures()] if self.tables and self.tensorboard else []


class Waiting(Callback):
    """Measures which share of an epoch's training steps goes to waiting for the next batch."""

    def __init__(self) -> None:
        self.begun = self.mark = self.waited = 0.0

    @classmethod
    def of(cls, trainer: pl.Trainer) -> Waiting:
        """What measures in a trainer of ``create_trainer``."""
        return next(one for one in trainer.callbacks if isinstance(one, cls))  # type: ignore[attr-defined]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins to measure."""
        self.begun = self.mark = time.monotonic()
        self.waited = 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any, **__: Any
    ) -> None:
        """Adds the time since the last step."""
        self.waited += time.monotonic() - self.mark

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any, **__: Any
    ) -> None:
        """Waiting begins."""
        self.mark = time.monotonic()

    @property
    def share(self) -> float:
        """The share up to the last step, 0 to 1."""
        passed = self.mark - self.begun
        return self.waited / passed if passed else 0.0


class Lines(Callback):
    """Reports the progress of a training where no progress bar is visible: in a pipe or a file.

    Args:
        say: Called with a line after each epoch, and at least once a minute.
    """

    def __init__(self, say: Say):
        self.say = say if not sys.stdout.isatty() else ignore
        self.last = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any, **__: Any
    ) -> None:
        """Reports the step, if the last line is about a minute old."""
        if time.monotonic() - self.last > LINE_SECONDS:
            steps = trainer.num_training_batches
            self._say(trainer, f"step {trainer.fit_loop.batch_idx + 1}/{steps}", "train_loss_step")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reports the loss, the validation F1 and the waiting of the epoch."""
        waited = f"{Waiting.of(trainer).share:.0%} of the time waited for data"
        self._say(trainer, "done", "train_loss_epoch", "val_f1", end=waited)

    def _say(self, trainer: pl.Trainer, where: str, *names: str, end: str = "") -> None:
        if not trainer.is_global_zero:
            return
        metrics = trainer.callback_metrics
        parts = [f"{_NAMES[name]} {float(metrics[name]):.4f}" for name in names if name in metrics]
        epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self.say(", ".join(filter(None, [f"{epoch} {where}", *parts, end])))
        self.last = time.monotonic()


class Steps(Callback):
    """Reports the number of finished steps and of all.

    Args:
        on_progress: Called after every step.
    """

    def __init__(self, on_progress: Progress):
        self.on_progress = on_progress

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any, **__: Any
    ) -> None:
        """Reports the step."""
        if trainer.is_global_zero:
            self.on_progress(trainer.global_step, int(trainer.estimated_stepping_batches))


_NAMES = {"train_loss_step": "loss", "train_loss_epoch": "loss", "val_f1": "val F1"}


class Table(CSVLogger):
    """Lightning's CSV table, with epochs counted from 1."""

    def log_metrics(self, metrics: Mapping[str, Tensor | float], step: int | None = None) -> None:
        """Adds a line to the table."""
        line = dict(metrics)
        if "epoch" in line:
            line["epoch"] = int(line["epoch"]) + 1
        super().log_metrics(line, step)

    def put_back(self, lines: Iterable[Mapping[str, float]]) -> None:
        """Writes the lines of an earlier process again; Lightning empties an existing table."""
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            for line in lines:
                super().log_metrics({**line}, int(line["step"]))
            self.save()


class Pictures(Callback):
    """Shows the first validation pairs in TensorBoard: both dates, label, probability."""

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: list[Batch],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draws the first batch."""
        if batch_idx > 0 or not isinstance(outputs, Mapping):
            return
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                sheet = _sheet(batch[0], outputs["probability"])
                names = "validation/before, after, label, probability"
                logger.experiment.add_image(names, sheet, trainer.current_epoch + 1)


def _sheet(batch: Batch, probability: Tensor) -> Tensor:
    """An image (3, H, W) in [0, 1] with one row per pair."""
    colours = 3 if batch.before.shape[1] >= 3 else 1
    dates = (images[:, :colours] / 255 for images in (batch.before, batch.after))
    columns = (*dates, (batch.change == 1).float(), probability)
    ratio = min(1.0, SHOWN_SIDE / max(probability.shape[-2:]))
    tiles = [
        F.interpolate(images[:SHOWN_PAIRS].float().cpu(), scale_factor=ratio, mode="area")
        .expand(-1, 3, -1, -1)
        for images in columns
    ]  # fmt: skip
    return make_grid(torch.stack(tiles, dim=1).flatten(0, 1), nrow=len(tiles))

"""Lightning's trainer, set up for a recipe."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, EarlyStopping, RichProgressBar
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from ctma.devices import TRAINER_PRECISIONS, find_device
from ctma.errors import SettingError, first_line
from ctma.settings import check_count
from ctma.training.logs import Logs, Waiting
from ctma.training.settings import Recipe


@dataclass(frozen=True)
class Hardware:
    """Where a training runs.

    Attributes:
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, or ``"cuda:1"`` for the second GPU.
        devices: Number of processes that share the work, one per device.
    """

    device: str = "auto"
    devices: int = 1

    def check(self) -> None:
        """Checks that the devices are available.

        Raises:
            SettingError: If the device is not available, or ``device`` names one device and
                ``devices`` is more than 1.
        """
        check_count("devices", self.devices)
        find_device(self.device)
        if ":" in self.device and self.devices > 1:
            raise SettingError(f"`device` {self.device} is one device, not {self.devices}")

    def lightning(self) -> dict[str, Any]:
        """The devices as arguments of Lightning's trainer."""
        kind, _, number = str(find_device(self.device)).partition(":")
        return {
            "accelerator": "gpu" if kind == "cuda" else kind,
            "devices": [int(number)] if number else self.devices,
            "strategy": "ddp" if self.devices > 1 else "auto",
        }


class ProgressBar(RichProgressBar):
    """Lightning's progress bar with the loss, the validation F1, and the waiting for data."""

    def _get_train_description(self, current_epoch: int) -> str:
        """The epoch, counted from 1, because Lightning has no setting for this."""
        return f"Epoch {current_epoch + 1}/{self.trainer.max_epochs}"

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """The metrics shown."""
        metrics = super().get_metrics(trainer, pl_module)
        shown = {"train_loss_step": "loss", "val_f1": "val F1"}
        waiting = {"waiting": f"{Waiting.of(trainer).share:.0%}"}
        return {label: metrics[name] for name, label in shown.items() if name in metrics} | waiting


def create_trainer(
    recipe: Recipe, output: Path, callbacks: list[Callback], hardware: Hardware, logs: Logs
) -> pl.Trainer:
    """Lightning's trainer, set up for a recipe.

    Args:
        recipe: The recipe; its trainer part is used.
        output: The run's folder; gets ``logs/``.
        callbacks: The callback that saves the checkpoints, and others.
        hardware: The devices to train on.
        logs: What the training logs.

    Raises:
        SettingError: If the device is not available.
    """
    settings = recipe.trainer
    if settings.patience is not None:
        callbacks.append(EarlyStopping("val_f1", mode="max", patience=settings.patience))
    # In a pipe or a file, lines report the progress.
    bar = [ProgressBar(leave=True)] if sys.stdout.isatty() else []
    try:
        return pl.Trainer(
            **hardware.lightning(),
            precision=cast(Any, TRAINER_PRECISIONS[settings.precision]),
            max_epochs=settings.epochs,
            accumulate_grad_batches=settings.accumulate,
            gradient_clip_val=settings.clip,
            callbacks=[Waiting(), *bar, *logs.callbacks(), *callbacks],
            enable_progress_bar=bool(bar),
            logger=logs.loggers(output) or False,
            log_every_n_steps=logs.interval,
            enable_checkpointing=True,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
        )
    except MisconfigurationException as error:
        request = f"`devices` {hardware.devices} on {hardware.device}"
        raise SettingError(f"{request}: {first_line(error)}") from error


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Hides Lightning's messages about itself, because users cannot act on them."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # This warning is about Lightning's own use of torch.
            warnings.filterwarnings("ignore", message=r".*treespec, LeafSpec")
            yield
    finally:
        logger.setLevel(level)

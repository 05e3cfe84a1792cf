"""Pairs and a network, as Lightning wants them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR, StepLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from ctma.data.augmentation import augmentation
from ctma.data.dataset import (
    Batch,
    Mixture,
    PairDataset,
    ShareSampler,
    TrainingSampler,
    collate,
    collate_by_size,
    find_label_scale,
)
from ctma.data.readers import Pair
from ctma.evaluation.metrics import ConfusionMatrix, Scores
from ctma.evaluation.protocols import crops, unit_range
from ctma.models import ChangeNetwork
from ctma.training.losses import change_loss
from ctma.training.recipes import DataSettings, Recipe, ScheduleSettings, SourceSettings


@dataclass(frozen=True)
class Start:
    """Where a training begins.

    Attributes:
        epoch: Epochs that are done already.
        optimizer: The optimizer's state after them, ``None`` for a fresh one.
    """

    epoch: int = 0
    optimizer: dict[str, Any] | None = None


class ChangeModule(pl.LightningModule):
    """Trains a network by a recipe and scores it on validation by the protocol ``crops``.

    Args:
        network: The network.
        recipe: The recipe.
        start: Where a former training stopped, if its state is not a checkpoint of Lightning.
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

    @property
    def kept(self) -> ChangeNetwork:
        """The network that is validated and saved: the trained one, or its moving average."""
        if self.average is None:
            return self.network
        assert isinstance(self.average.module, ChangeNetwork)
        return self.average.module

    def on_fit_start(self) -> None:
        """Counts the epochs of a former training as done."""
        if self.start.epoch:
            progress = self.trainer.fit_loop.epoch_progress.current
            for count in ("ready", "started", "processed", "completed"):
                setattr(progress, count, self.start.epoch)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Loss of one batch."""
        logits = self.network(unit_range(batch.before), unit_range(batch.after))
        loss = change_loss(logits, batch.change, self.recipe.loss)
        # No sync between processes: the progress bar reads the mean in the first one only,
        # and would wait for the others forever.
        rows = len(batch.change)
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=rows)
        return loss

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        """A step of the optimizer, and of the moving average behind it."""
        super().optimizer_step(*arguments, **named)
        if self.average is not None:
            self.average.update_parameters(self.network)

    def on_validation_epoch_start(self) -> None:
        """Gives all processes the first one's batch statistics, so that they score one network."""
        if torch.distributed.is_initialized():
            for buffer in self.kept.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def validation_step(self, batches: list[Batch], _: int) -> None:
        """Counts the pixels of some pairs."""
        for batch in batches:
            self.confusion.update(crops(self.kept, batch.before, batch.after), batch.change)

    def on_validation_epoch_end(self) -> None:
        """Takes the scores over all pixels of all processes."""
        self.validation_scores = self.confusion.scores()
        self.confusion.reset()
        for name in ("f1", "precision", "recall"):
            value = getattr(self.validation_scores, name)
            self.log(f"val_{name}", value, prog_bar=name == "f1", rank_zero_only=False)

    def configure_optimizers(self) -> Any:
        """The recipe's optimizer and schedule."""
        settings = self.recipe.optimizer
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.name]
        optimizer = kind(
            self.network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
        )
        if self.start.optimizer is not None:
            optimizer.load_state_dict(self.start.optimizer)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = learning_rates(optimizer, self.recipe.schedule, steps, self.start.epoch)
        interval = "step" if self.recipe.schedule.name == "one-cycle" else "epoch"
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": interval},
        }


def _moving_average(network: ChangeNetwork, decay: float | None) -> AveragedModel | None:
    if decay is None:
        return None
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    return average.requires_grad_(False)


class PairsModule(pl.LightningDataModule):
    """Loaders over a training and a validation split, in this process's share.

    Args:
        training: Labelled pairs to train on, one list for each of the recipe's sources.
        validation: Labelled pairs to pick the best checkpoint on.
        settings: The recipe's data part.
        seed: The recipe's seed.
        epoch: Epochs that are done already.
    """

    def __init__(
        self,
        training: list[list[Pair]],
        validation: list[Pair],
        settings: DataSettings,
        seed: int,
        epoch: int = 0,
    ):
        super().__init__()
        self.settings = settings
        self.seed = seed
        self.epoch = epoch
        self.training = Mixture(
            [
                (self._drawn(pairs, source), source.repeats)
                for pairs, source in zip(training, settings.sources, strict=True)
            ]
        )
        self.validation = PairDataset(validation, find_label_scale(validation))

    def first_batch(self) -> Batch:
        """What training sees first, drawn in this process."""
        draws = islice(self._training_sampler(), self.settings.batch_size)
        return collate([self.training[draw] for draw in draws])

    def train_dataloader(self) -> DataLoader:
        """Cropped and augmented batches, drawn as a function of seed and epoch."""
        return self._loader(self.training, self._training_sampler(), collate)

    def val_dataloader(self) -> DataLoader:
        """Every validation pair once over all processes."""
        sampler = ShareSampler(len(self.validation), *self._share())
        return self._loader(self.validation, sampler, collate_by_size)

    def _drawn(self, pairs: list[Pair], source: SourceSettings) -> PairDataset:
        return PairDataset(
            pairs,
            find_label_scale(pairs),
            self.settings.crop_size,
            augmentation(self.settings.augmentation, self.settings.without),
            source.zoom,
            self.settings.focus,
            self.settings.paste,
        )

    def _training_sampler(self) -> TrainingSampler:
        share = self._share()
        sampler = TrainingSampler(len(self.training), self.settings.repeats, self.seed, *share)
        # Loader processes begin to draw before the trainer tells the first epoch.
        sampler.set_epoch(self.epoch)
        return sampler

    def _share(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def _loader(self, dataset: PairDataset | Mixture, sampler: Any, collate_fn: Any) -> DataLoader:
        workers = self.settings.workers
        return DataLoader(
            dataset,
            batch_size=self.settings.batch_size,
            sampler=sampler,
            collate_fn=collate_fn,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )


def learning_rates(
    optimizer: Optimizer, settings: ScheduleSettings, total_steps: int, epoch: int = 0
) -> LRScheduler:
    """The schedule of a recipe.

    Args:
        optimizer: Its learning rate is where the schedule starts (or, for ``one-cycle``,
            the highest).
        settings: The recipe's schedule part.
        total_steps: Optimizer steps of the whole training, for ``one-cycle``.
        epoch: Epochs that are done already; ``step`` goes on from there.

    Returns:
        A scheduler, to be stepped once an epoch, for ``one-cycle`` once a step.
    """
    if settings.name == "step":
        if epoch:
            for group in optimizer.param_groups:
                former = (epoch - 1) // settings.step_size
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * settings.gamma**former
        return StepLR(optimizer, settings.step_size, settings.gamma, last_epoch=epoch - 1)
    if settings.name == "one-cycle":
        highest = [group["lr"] for group in optimizer.param_groups]
        # Torch divides by zero where the rise is one step long.
        rise = settings.warmup if settings.warmup * total_steps > 1 else 0.0
        return OneCycleLR(optimizer, highest, total_steps, pct_start=rise, cycle_momentum=False)
    return ConstantLR(optimizer, factor=1.0)

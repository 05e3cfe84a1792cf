"""Data loaders of pairs for Lightning."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import chain, islice
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from ctma.data.augmentation import augmentation, split
from ctma.data.dataset import (
    PLAIN,
    Batch,
    Mixture,
    PairDataset,
    ShareSampler,
    TrainingSampler,
    collate,
    collate_by_size,
)
from ctma.data.layouts import Layout, check_folder
from ctma.data.pairs import Pair, find_coding, refuse_unlike
from ctma.data.readers import data_fingerprint, find_data_name, find_pairs
from ctma.errors import DataError, SettingError
from ctma.models.usage import Usage
from ctma.training.settings import DataSettings, SourceSettings
from ctma.types import counted

SINGLE_DATES = "before=image,after=image,change=label"
"""The folder layout of single-date images: each image is read as both dates of a pair."""


@dataclass(frozen=True)
class TrainingPairs:
    """The pairs for training, and the pairs that choose the best checkpoint.

    Attributes:
        name: The names of the data folders, joined with a plus sign.
        validation_name: The name of the folder with the validation pairs.
        training: Labelled pairs, one list for each of the recipe's sources.
        validation: Labelled pairs of the first source.
    """

    name: str
    validation_name: str
    training: list[list[Pair]]
    validation: list[Pair]

    @property
    def count(self) -> int:
        """The number of training pairs."""
        return sum(map(len, self.training))

    def fingerprint(self) -> str:
        """The fingerprint of all training pairs."""
        return data_fingerprint(chain(*self.training))

    def check_shared(self, devices: int) -> None:
        """Refuses more processes than there are pairs.

        Raises:
            SettingError: If a process would have no pair.
        """
        counts = {"training": self.count, "validation": len(self.validation)}
        for kind, count in counts.items():
            if devices > count:
                raise SettingError(
                    f"`devices` {devices}: there are only {counted(count, f'{kind} pair')}; "
                    "take fewer devices"
                )


def find_training_pairs(root: Path, settings: DataSettings) -> TrainingPairs:
    """Finds the training and validation pairs that a recipe asks for.

    Raises:
        DataError: If a folder or split is missing or incomplete, or no training pair is left.
    """
    training = []
    folders = settings.folders
    for source in settings.sources:
        folder = root / source.folder
        split = settings.training_split
        pairs = (
            _find_single(folder, split)
            if source.single
            else find_pairs(folder, split, folders=folders)
        )
        if source.exclude is not None:
            pairs = [pair for pair in pairs if not fnmatch(pair.name, source.exclude)]
        if not pairs:
            raise DataError(f"{folder}: every training pair is left out by {source.exclude!r}")
        training.append(pairs)
    places = [root / source.folder for source in settings.sources]
    validation = find_pairs(places[0], settings.validation_split, folders=folders)
    names = [*dict.fromkeys(map(find_data_name, places))]
    return TrainingPairs(" + ".join(names), names[0], training, validation)


def _find_single(folder: Path, split: str) -> list[Pair]:
    """Images of single dates: those of a split, or all where there are no splits."""
    layout = Layout(SINGLE_DATES)
    splits = layout.locations(layout.find_root(check_folder(folder)))
    # A reader of one's own tells no splits.
    whole = splits.keys() <= {"all"}
    return find_pairs(folder, "all" if whole else split, folders=SINGLE_DATES)


class PairsModule(pl.LightningDataModule):
    """Loaders of this process's share of the training and validation pairs.

    Args:
        pairs: Labelled pairs.
        settings: The recipe's data part.
        seed: The recipe's seed.
        epoch: Number of epochs that are already done.
        usage: How the network takes images.
        taught: Whether batches also hold the dates with their plain look, for teachers.
    """

    def __init__(
        self,
        pairs: TrainingPairs,
        settings: DataSettings,
        seed: int,
        epoch: int = 0,
        usage: Usage = PLAIN,
        taught: bool = False,
    ):
        super().__init__()
        self.taught = taught
        self.settings = settings
        self.seed = seed
        self.epoch = epoch
        self.usage = usage
        self.training = Mixture(
            [
                (self._draw_from(source_pairs, source), source.repeats)
                for source_pairs, source in zip(pairs.training, settings.sources, strict=True)
            ]
        )
        self.validation = PairDataset(pairs.validation, find_coding(pairs.validation), usage=usage)
        if len(self.training.parts) == 1:  # else from several data sets
            refuse_unlike(self.training.parts[0].coding, self.validation.coding)

    def first_batch(self) -> Batch:
        """The first training batch, drawn in this process."""
        draws = islice(self._training_sampler(), self.settings.batch_size)
        return collate([self.training[draw] for draw in draws])

    def train_dataloader(self) -> DataLoader[Any]:
        """Cropped and augmented batches; seed and epoch determine the draws."""
        return self._loader(self.training, self._training_sampler(), collate)

    def val_dataloader(self) -> DataLoader[Any]:
        """Batches of validation pairs; all processes together see every pair once."""
        sampler = ShareSampler(len(self.validation), *self._share())
        return self._loader(self.validation, sampler, collate_by_size)

    def _draw_from(self, pairs: list[Pair], source: SourceSettings) -> PairDataset:
        policy = self.settings.augmentation, self.settings.without
        augment, alter = split(*policy) if self.taught else (augmentation(*policy), None)
        return PairDataset(
            pairs,
            find_coding(pairs),
            self.settings.crop_size,
            augment,
            source.zoom,
            self.settings.focus,
            self.settings.paste,
            source.single,
            self.usage,
            alter,
        )

    def _training_sampler(self) -> TrainingSampler:
        share = self._share()
        settings = self.settings
        sampler = TrainingSampler(
            len(self.training), settings.repeats, self.seed, *share, draws=settings.draws
        )
        # Loader processes begin to draw before the trainer sets the first epoch.
        sampler.set_epoch(self.epoch)
        return sampler

    def _share(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def _loader(
        self, dataset: PairDataset | Mixture, sampler: Any, collate_fn: Any
    ) -> DataLoader[Any]:
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

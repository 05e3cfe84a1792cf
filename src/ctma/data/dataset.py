"""Pairs as tensors: data sets for data loaders, and samplers that set the order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from ctma.data.augmentation import Augmentation, paste, put_together, random_crop
from ctma.data.pairs import Coding, Pair, Sample, read_sample, size_text
from ctma.data.rasters import read_date
from ctma.errors import DataError, ImageError
from ctma.models.usage import Usage
from ctma.types import MINIMUM_SIZE, Pixels, counted

PLAIN = Usage()
"""How a network takes images of 8-bit colours."""


class Batch(NamedTuple):
    """Pairs as 8-bit tensors.

    Attributes:
        before: (B, C, H, W) uint8.
        after: (B, C, H, W) uint8.
        change: (B, 1, H, W) uint8: 0, 1 or ``IGNORED``.
        indices: (B,) int64, index of each pair in the list of pairs.
        plain: (B, 2, C, H, W) uint8, both dates before the augmentation changed their look; (B, 0)
            where nobody asked for them.
    """

    before: Tensor
    after: Tensor
    change: Tensor
    indices: Tensor
    plain: Tensor


@dataclass(frozen=True)
class Draw:
    """One draw of a training sampler: the index of a pair and the seed of its augmentation."""

    index: int
    seed: int


class PairDataset(Dataset[Any]):
    """Labelled pairs as 8-bit tensors.

    With an integer index, the data set returns the pair as stored on disk. With a ``Draw``,
    the data set returns the pair cropped and augmented. The result depends only on the draw.

    Args:
        pairs: Labelled pairs.
        coding: The stored values of the labels; see ``find_coding``.
        crop_size: Side of a random crop in pixels; ``None`` for whole images.
        augment: Augmentation of a drawn sample after cropping; ``None`` for no augmentation.
        zoom: Range of the side of the square that is resized to a crop, in crop sizes.
        focus: Probability that a crop contains a changed pixel.
        paste: Probability that the changed pixels of a random pair are copied into a crop.
        single: Whether the pairs are labelled single dates; two of these then make one pair.
        usage: How the network takes images; by default as images of 8-bit colours.
        alter: Augmentation of a drawn sample after ``augment``; it changes only the look of the
            dates. Batches then also hold the dates before it. ``None`` for no such augmentation.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        coding: Coding,
        crop_size: int | None = None,
        augment: Augmentation | None = None,
        zoom: tuple[float, float] = (1.0, 1.0),
        focus: float = 0.0,
        paste: float = 0.0,
        single: bool = False,
        usage: Usage = PLAIN,
        alter: Augmentation | None = None,
    ):
        self.pairs = pairs
        self.coding = coding
        self.crop_size = crop_size
        self.augment = augment
        self.zoom = zoom
        self.focus = focus
        self.paste = paste
        self.single = single
        self.usage = usage
        self.alter = alter

    @property
    def note(self) -> str:
        """A text with the number of pairs and the stored values of their labels."""
        return f"{counted(len(self.pairs), 'pair')}, labels stored as {self.coding}"

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: int | Draw) -> Batch:
        if isinstance(key, Draw):
            rng = np.random.default_rng(key.seed)
            sample = self._crop(key.index, rng, self.focus)
            if self.single:
                other = self._crop(int(rng.integers(len(self))), rng, self.focus)
                if other[2].shape == sample[2].shape:
                    sample = put_together(sample, other)
            if self.paste and rng.random() < self.paste:
                donor = self._crop(int(rng.integers(len(self))), rng, focus=1.0)
                if donor[2].shape == sample[2].shape:
                    sample = paste(sample, donor)
            if self.augment is not None:
                sample = self.augment(sample, rng)
            if self.alter is not None:
                return _to_tensors(self.alter(sample, rng), key.index, sample[:2])
            return _to_tensors(sample, key.index)
        return _to_tensors(self.read(key), key)

    def _crop(self, index: int, rng: np.random.Generator, focus: float) -> Sample:
        sample = self.read(index)
        if self.crop_size is None:
            return sample
        return random_crop(sample, self.crop_size, rng, self.zoom, focus)

    def read(self, index: int) -> Sample:
        """Reads one pair as stored on disk; see ``ctma.data.pairs.read_sample``.

        Raises:
            ImageError: If the pair is too small for cropping.
        """
        sample = read_sample(self.pairs[index], self.coding, self._read_date)
        if min(sample[2].shape) < MINIMUM_SIZE and self.crop_size is not None:
            raise ImageError(
                f"{self.pairs[index].before}: {size_text(sample[0])}, training takes "
                f"{MINIMUM_SIZE} pixels and more"
            )
        return sample

    def _read_date(self, path: Path, date: int) -> Pixels:
        return read_date(path, self.usage, date)


class Mixture(Dataset[Any]):
    """Several data sets as one data set.

    Args:
        parts: The data sets, each with the number of draws of every pair.
    """

    def __init__(self, parts: Sequence[tuple[PairDataset, int]]):
        self.parts = [part for part, _ in parts]
        self.items = [
            (part, index)
            for part, repeats in parts
            for _ in range(repeats)
            for index in range(len(part))
        ]

    @property
    def note(self) -> str:
        """The notes of all parts."""
        return " + ".join(part.note for part in self.parts)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: Draw) -> Batch:
        part, index = self.items[key.index]
        return part[Draw(index, key.seed)]


class TrainingSampler(Sampler[Any]):
    """Draws every pair equally often in an epoch, in a random order that the epoch's seed sets.

    With several processes, each process draws its share, and all shares have the same length.
    To fill the last shares, the sampler repeats draws from the start of the list.

    Args:
        size: Number of pairs.
        repeats: Number of draws of each pair in an epoch.
        seed: Seed of the run.
        rank: Index of this process.
        processes: Number of processes that share the draws.
        draws: Total number of draws in an epoch, in place of ``repeats``. The sampler then draws
            some pairs once more than others.
    """

    def __init__(
        self,
        size: int,
        repeats: int,
        seed: int,
        rank: int = 0,
        processes: int = 1,
        draws: int | None = None,
    ):
        self.listed = size * (repeats if draws is None else -(-draws // size))
        self.total = draws or self.listed
        self.size = size
        self.seed = seed
        self.rank = rank
        self.processes = processes
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the next iteration; the trainer calls this method."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.total // self.processes)

    def __iter__(self) -> Iterator[Draw]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = self._order(rng)
        seeds = rng.integers(2**63, size=self.listed)
        for position in range(self.rank, len(self) * self.processes, self.processes):
            draw = position % self.total
            yield Draw(int(order[draw]) % self.size, int(seeds[draw]))

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Shuffles all draws at once; with ``draws`` set, round by round, so no pair is missed."""
        if self.total == self.listed:
            return rng.permutation(self.listed)
        return np.concatenate([rng.permutation(self.size) for _ in range(self.listed // self.size)])


class ShareSampler(Sampler[Any]):
    """Draws every index exactly once over all processes, for exact scores.

    Args:
        size: Number of items.
        rank: Index of this process.
        processes: Number of processes that share the items.
    """

    def __init__(self, size: int, rank: int = 0, processes: int = 1):
        self.share = range(rank, size, processes)

    def __len__(self) -> int:
        return len(self.share)

    def __iter__(self) -> Iterator[int]:
        return iter(self.share)


def collate(samples: list[Batch]) -> Batch:
    """Stacks samples of the same size to a batch.

    Raises:
        DataError: If the sizes differ.
    """
    if len({sample.before.shape for sample in samples}) > 1:
        raise DataError(
            "pairs of different sizes cannot be batched: set crop_size to the smallest size"
        )
    return Batch(*(torch.stack(parts) for parts in zip(*samples, strict=True)))


def collate_by_size(samples: list[Batch]) -> list[Batch]:
    """Stacks samples to batches, one batch for each image size."""
    by_size: dict[torch.Size, list[Batch]] = {}
    for sample in samples:
        by_size.setdefault(sample.before.shape, []).append(sample)
    return [collate(group) for group in by_size.values()]


def to_unit_range(image: Tensor, scaling: float) -> Tensor:
    """Scales 8-bit values to [0, 1]; returns images of other types unchanged.

    Args:
        image: An image of any shape.
        scaling: The stored value that maps to 1; larger values also become 1.
    """
    return (image / scaling).clamp(max=1) if image.dtype == torch.uint8 else image


def to_tensor(image: NDArray[Any]) -> Tensor:
    """Converts an array (H, W, C) or (H, W) to a tensor (C, H, W) of the same type."""
    if image.ndim == 2:
        image = image[..., None]
    return torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C"))


def _to_tensors(sample: Sample, index: int, plain: Sequence[Pixels] = ()) -> Batch:
    before, after, change = (to_tensor(image) for image in sample)
    kept = torch.stack([to_tensor(image) for image in plain]) if plain else torch.empty(0)
    return Batch(before, after, change, torch.tensor(index), kept)

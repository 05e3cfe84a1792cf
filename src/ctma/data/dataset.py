"""Pairs as tensors: the data set that loaders draw from, and the order they draw in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from ctma.data.augmentation import Augmentation, paste, put_together, random_crop
from ctma.data.pairs import Pair, Sample, read_sample, size_text
from ctma.errors import DataError, ImageError
from ctma.types import MINIMUM_SIZE, counted


class Batch(NamedTuple):
    """Pairs as 8-bit tensors.

    Attributes:
        before: (B, C, H, W) uint8.
        after: (B, C, H, W) uint8.
        change: (B, 1, H, W) uint8, 0 or 1.
        indices: (B,) int64, where they stand in the list of pairs.
    """

    before: Tensor
    after: Tensor
    change: Tensor
    indices: Tensor


@dataclass(frozen=True)
class Draw:
    """One draw of a training sampler: which pair, and the seed of its augmentation."""

    index: int
    seed: int


class PairDataset(Dataset[Any]):
    """Labelled pairs as 8-bit tensors.

    An item asked for by a plain index comes as it is on disk; by a ``Draw`` it comes
    cropped and augmented, as a function of the draw's seed alone.

    Args:
        pairs: Labelled pairs.
        label_scale: The stored value of change, 1 or 255; see ``find_label_scale``.
        crop_size: Side of a random crop in pixels, ``None`` for none.
        augment: What is done to a drawn sample after cropping, ``None`` for nothing.
        zoom: Range of the square that a crop is cut from, in crop sizes.
        focus: Odds that a crop is laid over a changed pixel.
        paste: Odds that the changed pixels of a pair drawn at random are laid over a crop.
        single: Whether the pairs are single dates, two of which are put together.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        label_scale: int,
        crop_size: int | None = None,
        augment: Augmentation | None = None,
        zoom: tuple[float, float] = (1.0, 1.0),
        focus: float = 0.0,
        paste: float = 0.0,
        single: bool = False,
    ):
        self.pairs = pairs
        self.label_scale = label_scale
        self.crop_size = crop_size
        self.augment = augment
        self.zoom = zoom
        self.focus = focus
        self.paste = paste
        self.single = single

    @property
    def note(self) -> str:
        """How many pairs, and how their labels are stored."""
        return f"{counted(len(self.pairs), 'pair')}, labels stored as 0/{self.label_scale}"

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
            return _to_tensors(sample, key.index)
        return _to_tensors(self.read(key), key)

    def _crop(self, index: int, rng: np.random.Generator, focus: float) -> Sample:
        sample = self.read(index)
        if self.crop_size is None:
            return sample
        return random_crop(sample, self.crop_size, rng, self.zoom, focus)

    def read(self, index: int) -> Sample:
        """One pair as it is on disk; see ``ctma.data.pairs.read_sample``.

        Raises:
            ImageError: If it is too small to be cropped.
        """
        sample = read_sample(self.pairs[index], self.label_scale)
        if min(sample[2].shape) < MINIMUM_SIZE and self.crop_size is not None:
            raise ImageError(
                f"{self.pairs[index].before}: {size_text(sample[0])}, training takes "
                f"{MINIMUM_SIZE} pixels and more"
            )
        return sample


class Mixture(Dataset[Any]):
    """Several data sets as one to draw from.

    Args:
        parts: Data sets, each with how often every pair of it is drawn.
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
        """What the parts say of themselves."""
        return " + ".join(part.note for part in self.parts)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: Draw) -> Batch:
        part, index = self.items[key.index]
        return part[Draw(index, key.seed)]


class TrainingSampler(Sampler[Any]):
    """Draws every pair equally often in an epoch, in an order that the epoch's seed gives.

    Under several processes each draws its share, and all draw equally often: the list is
    filled up from its start.

    Args:
        size: How many pairs there are.
        repeats: How often each is drawn in an epoch.
        seed: Seed of the run.
        rank: This process.
        processes: How many processes share the draws.
        draws: How many are drawn, in place of ``repeats``; some pairs then once more than others.
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
        """Chooses the epoch that the next iteration draws; the trainer calls it."""
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
        """Of all draws at once; of a number of draws round by round, so that none is left out."""
        if self.total == self.listed:
            return rng.permutation(self.listed)
        return np.concatenate([rng.permutation(self.size) for _ in range(self.listed // self.size)])


class ShareSampler(Sampler[Any]):
    """Every index once over all processes, none twice: for exact scores.

    Args:
        size: How many items there are.
        rank: This process.
        processes: How many processes share the items.
    """

    def __init__(self, size: int, rank: int = 0, processes: int = 1):
        self.share = range(rank, size, processes)

    def __len__(self) -> int:
        return len(self.share)

    def __iter__(self) -> Iterator[int]:
        return iter(self.share)


def collate(samples: list[Batch]) -> Batch:
    """Stacks samples of one size.

    Raises:
        DataError: If their sizes differ.
    """
    if len({sample.before.shape for sample in samples}) > 1:
        raise DataError(
            "pairs of different sizes cannot be batched: set crop_size to the smallest size"
        )
    return Batch(*(torch.stack(parts) for parts in zip(*samples, strict=True)))


def collate_by_size(samples: list[Batch]) -> list[Batch]:
    """Stacks samples of one size each, in as many batches as there are sizes."""
    by_size: dict[torch.Size, list[Batch]] = {}
    for sample in samples:
        by_size.setdefault(sample.before.shape, []).append(sample)
    return [collate(group) for group in by_size.values()]


def to_unit_range(image: Tensor, scaling: float) -> Tensor:
    """8-bit values to [0, 1]; other values as they are.

    Args:
        image: Any shape.
        scaling: The stored value that stands for 1; larger ones become 1 too.
    """
    return (image / scaling).clamp(max=1) if image.dtype == torch.uint8 else image


def to_tensor(image: NDArray[Any]) -> Tensor:
    """(H, W, C) or (H, W) to (C, H, W), of the same type."""
    if image.ndim == 2:
        image = image[..., None]
    return torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C"))


def _to_tensors(sample: Sample, index: int) -> Batch:
    before, after, change = (to_tensor(image) for image in sample)
    return Batch(before, after, change, torch.tensor(index))

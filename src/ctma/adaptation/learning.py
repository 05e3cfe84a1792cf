"""Teaches the last layers of a network from few labelled tiles.

Batch norms keep their statistics: few tiles give poor ones. A moving average of the weights is
kept, as after few steps the last weights are noisy.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from ctma.data.augmentation import augmentation
from ctma.data.dataset import Batch, Draw, PairDataset, collate, to_unit_range
from ctma.data.pairs import Pair, Sample, find_coding
from ctma.devices import autocast
from ctma.models.base import ChangeNetwork
from ctma.models.layers import take_training_forms
from ctma.models.usage import Usage
from ctma.settings import Settings
from ctma.training.losses import change_loss
from ctma.training.settings import BCESettings, LossSettings
from ctma.types import MINIMUM_SIZE, Progress, ignore

MOST_BYTES = 2_000_000
"""Largest size of what a network learns, in half precision."""

ZOOM = (0.8, 1.25)
"""Range of scales around the network's ground sample distance."""

WARMUP = 0.1
"""Share of the steps over which the learning rate rises."""

TIMED_STEPS = 3
"""Steps after which the number of steps is fitted into the time."""


class Learning(Settings):
    """How the last layers learn; the defaults were found by ``benchmarks/adaptation.py``.

    Attributes:
        steps: Largest number of steps.
        rate: Highest learning rate.
        batch: Crops of this place per step.
        rehearsed: Crops of former data per step.
        hold: How strongly the outputs on former data are held at those of the old network, beside
            their labels (Z. Li, D. Hoiem, "Learning without Forgetting", 2016).
        crop: Side of a crop, in pixels that the network sees.
        average: Decay per step of the moving average of the weights.
        augmentation: Name of the augmentation.
        seed: Seed of the draws.
    """

    steps: int = 150
    rate: float = 1e-3
    batch: int = 4
    rehearsed: int = 4
    hold: float = 10.0
    crop: int = 192
    average: float = 0.98
    augmentation: str = "strong"
    seed: int = 0


@dataclass(frozen=True)
class Source:
    """Pairs to learn from.

    Attributes:
        pairs: Labelled pairs.
        usage: How the network takes their images.
        enlargement: Ratio by which the images are enlarged for the network.
        focus: Probability that a crop contains a changed pixel.
    """

    pairs: Sequence[Pair]
    usage: Usage
    enlargement: float = 1.0
    focus: float = 0.5


class _Remembered(PairDataset):
    """Labelled pairs that stay in memory once they are read."""

    def __init__(self, source: Source, learning: Learning):
        super().__init__(
            source.pairs,
            find_coding(source.pairs),
            crop_size=learning.crop,
            augment=augmentation(learning.augmentation, ("still", "swap")),
            zoom=(ZOOM[0] / source.enlargement, ZOOM[1] / source.enlargement),
            focus=source.focus,
            usage=source.usage,
        )
        self.samples: dict[int, Sample] = {}

    def read(self, index: int) -> Sample:
        if index not in self.samples:
            self.samples[index] = super().read(index)
        return self.samples[index]


def find_learnable(network: ChangeNetwork) -> list[str]:
    """Names of the weights that learn: the last layers, as many as fit into ``MOST_BYTES``.

    The backbone does not learn: its features hold for other places, and few tiles spoil them.
    """
    part = network.backbone_part
    names: list[str] = []
    size = 0
    for name, weight in reversed([*network.named_parameters()]):
        if part and name.startswith(part):
            continue
        size += 2 * weight.numel()
        if size > MOST_BYTES:
            break
        names.append(name)
    return names[::-1]


def learn(
    network: ChangeNetwork,
    here: Source,
    former: Source | None,
    learning: Learning,
    *,
    seconds: float,
    on_progress: Progress = ignore,
) -> int:
    """Trains the last layers of a network, in place.

    Args:
        network: The network.
        here: The labelled tiles of a place.
        former: Data like those that the network was trained on; ``None`` to go without.
        learning: How the layers learn.
        seconds: Time for the training; with less time, there are fewer steps.
        on_progress: Called after every step with the number of finished steps and of all.

    Returns:
        The number of steps.
    """
    named = dict(network.named_parameters())
    weights = [named[name] for name in find_learnable(network)]
    for weight in network.parameters():
        weight.requires_grad_(False)
    for weight in weights:
        weight.requires_grad_(True)
    draws = _draw(_open_parts(here, former, learning), learning.seed)
    take_training_forms(network)
    try:
        return _Steps(network, weights, learning).run(draws, seconds, on_progress)
    finally:
        take_training_forms(network, take=False)
        network.eval()
        for weight in network.parameters():
            weight.requires_grad_(True)


class _Steps:
    """The optimizer's steps and the moving average of the weights."""

    def __init__(self, network: ChangeNetwork, weights: list[nn.Parameter], learning: Learning):
        self.network, self.weights, self.learning = network, weights, learning
        self.loss = find_loss(network)
        self.old = copy.deepcopy(network).eval()
        self.average = [weight.detach().clone() for weight in weights]
        self.optimizer = torch.optim.AdamW(weights, learning.rate, weight_decay=0.01)
        torch.manual_seed(learning.seed)

    def run(self, draws: Iterator[Batch], seconds: float, on_progress: Progress) -> int:
        total, start = self.learning.steps, time.monotonic()
        done = 0
        while done < total:
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning.rate * _rise_and_fall((done + 0.5) / total)
            self._step(next(draws), done)
            done += 1
            if done == TIMED_STEPS:
                each = (time.monotonic() - start) / done
                total = max(done, min(total, int(seconds / each)))
            on_progress(done, total)
        with torch.no_grad():
            for weight, average in zip(self.weights, self.average, strict=True):
                weight.copy_(average)
        return done

    def _step(self, batch: Batch, done: int) -> None:
        network = self.network
        network.train()
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        images = [_to_input(date, network) for date in (batch.before, batch.after)]
        with autocast(network.device, "auto"):
            logits = network(*images)
        self.optimizer.zero_grad()
        loss: Tensor = change_loss(logits, batch.change.to(network.device), self.loss)
        loss = loss + self.learning.hold * self._departure(images, logits.fine)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        decay = min(self.learning.average, (1 + done) / (10 + done))
        with torch.no_grad():
            for average, weight in zip(self.average, self.weights, strict=True):
                average.lerp_(weight, 1 - decay)

    def _departure(self, images: list[Tensor], fine: Tensor) -> Tensor:
        """Cross-entropy with the old probabilities on the crops of former data; 0 without any."""
        former = slice(self.learning.batch, None)
        if not len(fine[former]):
            return fine.new_zeros(())
        with torch.no_grad(), autocast(self.network.device, "auto"):
            old = self.old(*(date[former] for date in images)).fine.float().sigmoid()
        return F.binary_cross_entropy_with_logits(fine[former].float(), old)


def _rise_and_fall(share: float) -> float:
    """The learning rate as a share of the highest: a short rise, then half a cosine."""
    if share < WARMUP:
        return share / WARMUP
    return (1 + math.cos(math.pi * (share - WARMUP) / (1 - WARMUP))) / 2


def find_loss(network: ChangeNetwork) -> LossSettings:
    """The loss of a network's recipe; cross-entropy with Dice where no recipe is known."""
    known = network.provenance.get("recipe", {}).get("loss")
    try:
        loss: LossSettings = TypeAdapter(LossSettings).validate_python(known)
    except ValidationError:
        return BCESettings(dice=1.0)
    return loss


def _to_input(images: Tensor, network: ChangeNetwork) -> Tensor:
    return to_unit_range(images.to(network.device), network.usage.scaling)


def _fit_crop(dataset: PairDataset, enlargement: float, crop: int) -> int:
    """The side of crops: no larger than the network sees the smallest tile."""
    smallest = min(min(dataset.read(index)[2].shape) for index in range(len(dataset)))
    return max(MINIMUM_SIZE, min(crop, int(smallest * enlargement) // 32 * 32))


def _open_parts(
    here: Source, former: Source | None, learning: Learning
) -> list[tuple[PairDataset, int]]:
    """The tiles of this place and former data, each with the number of its crops per step."""
    parts = [(_Remembered(here, learning), learning.batch)]
    if former is not None:
        parts.append((_Remembered(former, learning), learning.rehearsed))
    side = _fit_crop(parts[0][0], here.enlargement, learning.crop)
    for part, _ in parts:
        part.crop_size = side
    return [*parts]


def _draw(parts: list[tuple[PairDataset, int]], seed: int) -> Iterator[Batch]:
    """Batches without end: crops of each part in turn."""
    rng = np.random.default_rng(seed)
    while True:
        yield collate(
            [
                part[Draw(int(rng.integers(len(part))), int(rng.integers(2**63)))]
                for part, count in parts
                for _ in range(count)
            ]
        )

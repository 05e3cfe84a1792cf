"""Other ways for a network to look at a pair: enlarged, reduced, flipped."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ctma.models.blocks import MINIMUM_SIZE, ChangeLogits, ChangeNetwork

STEP = 8
"""Pixels of the networks' coarsest features; enlarged and reduced sizes are its multiples."""

_FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-1, -2))


class View(ChangeNetwork):
    """A network behind another way of looking; bands, header and calibration are its own.

    Args:
        network: The network that looks.
    """

    def __init__(self, network: ChangeNetwork):
        super().__init__()
        self.network = network
        self.bands = network.bands
        self.header = network.header
        self.temperature = network.temperature
        self.offset = network.offset
        self.train(network.training)


class FlipAverage(View):
    """Sees each pair as it is, mirrored, upside down, and both; takes four times as long."""

    def forward(self, before: Tensor, after: Tensor) -> ChangeLogits:
        """Mean logits of the four views; inputs as the network's."""
        logits = [
            self.network(before.flip(view), after.flip(view)).fine.flip(view) for view in _FLIPS
        ]
        return ChangeLogits(torch.stack(logits).mean(dim=0))


class Resized(View):
    """Sees each pair enlarged or reduced; the logits come back at the pair's own size.

    Args:
        network: The network that looks.
        enlargement: Pixels that it sees for each pixel of the pair, along a side, about; a pair
            is not reduced below the least size.
    """

    def __init__(self, network: ChangeNetwork, enlargement: float):
        super().__init__(network)
        self.enlargement = enlargement

    def forward(self, before: Tensor, after: Tensor) -> ChangeLogits:
        """Logits at the size of the inputs; inputs as the network's."""
        logits = self.network(*(seen(images, self.enlargement) for images in (before, after))).fine
        return ChangeLogits(resized(logits.float(), before.shape[-2:]))


def enlarged(network: ChangeNetwork, ratio: float) -> ChangeNetwork:
    """The network behind :class:`Resized`, or itself where the ratio is 1."""
    return network if ratio == 1 else Resized(network, ratio)


def seen(images: Tensor, ratio: float) -> Tensor:
    """Images as a network behind :class:`Resized` sees them: (B, bands, H, W), as they are at 1."""
    if ratio == 1:
        return images
    size = images.shape[-2:]
    ratio = max(ratio, MINIMUM_SIZE / min(size))
    return resized(images, [STEP * round(length * ratio / STEP) for length in size])


def resized(images: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, H, W) brought to another height and width, smoothly."""
    return F.interpolate(images, size=tuple(size), mode="bilinear", antialias=True)

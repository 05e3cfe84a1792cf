"""Views of a pair for a network: enlarged, reduced, flipped."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ctma.models.base import ChangeLogits, ChangeNetwork, View

_FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-1, -2))


class FlipAverage(View):
    """Averages four views: unchanged, mirrored, upside down, both; takes four times as long."""

    def forward(self, before: Tensor, after: Tensor) -> ChangeLogits:
        """Mean logits of the four views; takes the same inputs as the network."""
        logits = [
            self.network(before.flip(view), after.flip(view)).fine.flip(view) for view in _FLIPS
        ]
        return ChangeLogits(torch.stack(logits).mean(dim=0))


class Resized(View):
    """Enlarges or reduces each pair for a network; returns logits at the pair's own size.

    Args:
        network: The network that sees the pair.
        enlargement: Approximate ratio along a side; no pair is reduced below the network's least
            size.
    """

    def __init__(self, network: ChangeNetwork, enlargement: float):
        super().__init__(network)
        self.enlargement = enlargement

    def forward(self, before: Tensor, after: Tensor) -> ChangeLogits:
        """Logits at the size of the inputs; takes the same inputs as the network."""
        pair = (enlarge(images, self.enlargement, self.network) for images in (before, after))
        return ChangeLogits(resize(self.network(*pair).fine.float(), before.shape[-2:]))


def look_as(
    network: ChangeNetwork, *, enlargement: float = 1.0, tta: bool = False
) -> ChangeNetwork:
    """A network with the requested views, or the network itself if none is requested.

    Args:
        network: The network that sees the views.
        enlargement: See ``Resized``; 1 for no enlargement.
        tta: Average over flipped views.
    """
    seen = network if enlargement == 1 else Resized(network, enlargement)
    return FlipAverage(seen) if tta else seen


def enlarge(images: Tensor, ratio: float, network: ChangeNetwork) -> Tensor:
    """Images (B, bands, H, W), resized as by ``Resized``; unchanged at ratio 1."""
    if ratio == 1:
        return images
    size = images.shape[-2:]
    ratio = max(ratio, network.minimum_size / min(size))
    step = network.stride
    return resize(images, [step * round(length * ratio / step) for length in size])


def resize(images: Tensor, size: Sequence[int]) -> Tensor:
    """Resizes (B, C, H, W) to another height and width, bilinear with antialiasing."""
    return F.interpolate(images, size=tuple(size), mode="bilinear", antialias=True)

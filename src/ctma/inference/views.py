"""Other ways for a network to look at a pair: enlarged, reduced, flipped."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ctma.models.base import ChangeLogits, ChangeNetwork, View

_FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-1, -2))


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
        pair = (enlarge(images, self.enlargement, self.network) for images in (before, after))
        return ChangeLogits(resize(self.network(*pair).fine.float(), before.shape[-2:]))


def look_as(
    network: ChangeNetwork, *, enlargement: float = 1.0, tta: bool = False
) -> ChangeNetwork:
    """A network behind the views that are asked for, or itself where none is.

    Args:
        network: The network that looks.
        enlargement: See :class:`Resized`; 1 for none.
        tta: Average over flipped views.
    """
    seen = network if enlargement == 1 else Resized(network, enlargement)
    return FlipAverage(seen) if tta else seen


def enlarge(images: Tensor, ratio: float, network: ChangeNetwork) -> Tensor:
    """Images as a network behind :class:`Resized` sees them: (B, bands, H, W), as they are at 1."""
    if ratio == 1:
        return images
    size = images.shape[-2:]
    ratio = max(ratio, network.minimum_size / min(size))
    step = network.stride
    return resize(images, [step * round(length * ratio / step) for length in size])


def resize(images: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, H, W) brought to another height and width, smoothly."""
    return F.interpolate(images, size=tuple(size), mode="bilinear", antialias=True)

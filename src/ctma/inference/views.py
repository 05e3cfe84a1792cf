"""Views of a pair for a network: enlarged, reduced, flipped."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ctma.data.dataset import to_unit_range
from ctma.devices import find_device
from ctma.inference.look import AS_IS, Look, Views
from ctma.inference.resolution import enlarged_size
from ctma.models.base import ChangeLogits, ChangeNetwork, View, check_logits, check_numbers
from ctma.types import Plane


class ViewAverage(View):
    """Averages several views; takes as many times as long.

    Args:
        network: The network that sees the views.
        enlargement: Ratio by which all views are enlarged; see ``Resized``.
        views: The views.
    """

    def __init__(self, network: ChangeNetwork, enlargement: float, views: Views):
        super().__init__(network)
        self.enlargement = enlargement
        self.views = views

    def forward(self, before: Tensor, after: Tensor) -> ChangeLogits:
        """Mean logits of the views; takes the same inputs as the network."""
        logits = [
            enlarged(self.network, self.enlargement * scale)(before.flip(flip), after.flip(flip))
            .fine.float()
            .flip(flip)
            for flip, scale in self.views
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
        pair = (resize_for(self.network, images, self.enlargement) for images in (before, after))
        return ChangeLogits(resize(self.network(*pair).fine.float(), before.shape[-2:]))


def look_as(
    network: ChangeNetwork, *, enlargement: float = 1.0, views: Views = (AS_IS,)
) -> ChangeNetwork:
    """A network with the requested views, or the network itself if none is requested.

    Args:
        network: The network that sees the views.
        enlargement: See ``Resized``; 1 for no enlargement.
        views: The views whose logits are averaged.
    """
    if views == (AS_IS,):
        return enlarged(network, enlargement)
    return ViewAverage(network, enlargement, views)


def enlarged(network: ChangeNetwork, ratio: float) -> ChangeNetwork:
    """A network that sees enlarged or reduced pairs, or the network itself at ratio 1."""
    return network if ratio == 1 else Resized(network, ratio)


def resize_for(network: ChangeNetwork, images: Tensor, ratio: float) -> Tensor:
    """Images (B, bands, H, W), resized as by ``Resized``; unchanged at ratio 1."""
    if ratio == 1:
        return images
    size = enlarged_size(images.shape[-2:], ratio, network.stride, network.minimum_size)
    return resize(images, size)


def resize(images: Tensor, size: Sequence[int]) -> Tensor:
    """Resizes (B, C, H, W) to another height and width, bilinear with antialiasing."""
    return F.interpolate(images, size=tuple(size), mode="bilinear", antialias=True)


@torch.no_grad()
def see(network: ChangeNetwork, before: Tensor, after: Tensor) -> Tensor:
    """The change probability of a pair; pads images below the least size by their edge.

    Args:
        network: The network, in evaluation mode.
        before: (B, bands, H, W), 8-bit or in [0, 1].
        after: As ``before``.

    Returns:
        (B, 1, H, W), float32.

    Raises:
        CheckpointError: If the network returns values that are not finite.
    """
    height, width = before.shape[-2:]
    least, scaling = network.minimum_size, network.usage.scaling
    before, after = (_pad_to(least, to_unit_range(image, scaling)) for image in (before, after))
    logits = network(before, after)
    check_logits(network, logits, before)
    return check_numbers(network.probability(logits.fine[..., :height, :width]))


@dataclass
class NetworkLook(Look):
    """Looks through a network that torch runs.

    Attributes:
        network: The network with engine and views, in evaluation mode.
        callers: See ``Look``.
    """

    network: ChangeNetwork
    callers: int

    def __call__(self, before: NDArray[Any], after: NDArray[Any]) -> Plane:
        """The change probability, (H, W); see ``Look``."""
        # Torch is faster with channels last.
        pair = (
            torch.from_numpy(np.ascontiguousarray(date))[None].to(
                self.network.device, memory_format=torch.channels_last
            )
            for date in (before, after)
        )
        probability: Plane = see(self.network, *pair)[0, 0].cpu().numpy()
        return probability

    def begin_thread(self) -> None:
        """Lets torch compute in the calling thread alone."""
        torch.set_num_threads(1)

    def travelling(self) -> Look:
        """A copy on the CPU; see ``Look``."""
        return replace(self, network=deepcopy(self.network).cpu())

    def on(self, device: str) -> Look:
        """The same network, moved to a device."""
        return replace(self, network=self.network.to(find_device(device)))


def _pad_to(least: int, image: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    if min(height, width) >= least:
        return image
    missing = (0, max(least - width, 0), 0, max(least - height, 0))
    return F.pad(image, missing, mode="replicate")

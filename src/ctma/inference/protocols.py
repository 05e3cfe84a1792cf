"""Protocols that run a network over an image, as published scores use them.

- ``crops``: squares of 256 pixels that do not overlap, each predicted alone.
- ``whole``: the whole image at once.
- ``sliding``: windows of 256 pixels at stride 64, and the mean of their probabilities.

Where windows do not fit the image exactly, the last window of a row or column moves back inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ctma.data.dataset import to_unit_range
from ctma.data.tiles import windows
from ctma.errors import UnknownNameError
from ctma.models.base import ChangeNetwork, check_logits, check_numbers

WINDOW = 256
STRIDE = 64


Protocol = Callable[[ChangeNetwork, Tensor, Tensor], Tensor]


def find_protocol(name: str) -> Protocol:
    """A protocol by name.

    A protocol takes a network and two batches (B, C, H, W), 8-bit or in [0, 1], and
    returns the change probability (B, 1, H, W), float32.

    Raises:
        UnknownNameError: If there is no such protocol.
    """
    if name not in PROTOCOLS:
        raise UnknownNameError("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


@torch.no_grad()
def whole(network: ChangeNetwork, before: Tensor, after: Tensor) -> Tensor:
    """Predicts the whole image at once; pads images below the least size by their edge.

    Raises:
        CheckpointError: If the network returns values that are not finite.
    """
    height, width = before.shape[-2:]
    least, scaling = network.minimum_size, network.usage.scaling
    before, after = (_pad_to(least, to_unit_range(image, scaling)) for image in (before, after))
    logits = network(before, after)
    check_logits(network, logits, before)
    return check_numbers(network.probability(logits.fine[..., :height, :width]))


@torch.no_grad()
def crops(network: ChangeNetwork, before: Tensor, after: Tensor, window: int = WINDOW) -> Tensor:
    """Predicts each square alone; of a square that was moved back, only the new pixels count."""
    probability = before.new_zeros((len(before), 1, *before.shape[-2:]), dtype=torch.float32)
    for area, part in _over_windows(network, before, after, window, stride=window, reverse=True):
        probability[..., area[0], area[1]] = part
    return probability


@torch.no_grad()
def sliding(
    network: ChangeNetwork,
    before: Tensor,
    after: Tensor,
    window: int = WINDOW,
    stride: int = STRIDE,
) -> Tensor:
    """Mean probability of overlapping windows."""
    total = before.new_zeros((len(before), 1, *before.shape[-2:]), dtype=torch.float32)
    count = torch.zeros_like(total)
    for area, part in _over_windows(network, before, after, window, stride):
        total[..., area[0], area[1]] += part
        count[..., area[0], area[1]] += 1
    return total / count


PROTOCOLS: dict[str, Protocol] = {"crops": crops, "whole": whole, "sliding": sliding}


def _over_windows(
    network: ChangeNetwork,
    before: Tensor,
    after: Tensor,
    window: int,
    stride: int,
    reverse: bool = False,
) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
    """Areas and their probabilities; with ``reverse``, from the last window to the first."""
    height, width = before.shape[-2:]
    places = windows(height, width, window, stride)
    for place in reversed(places) if reverse else places:
        rows, columns = place.area
        yield (
            place.area,
            whole(network, before[..., rows, columns], after[..., rows, columns]),
        )


def _pad_to(least: int, image: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    if min(height, width) >= least:
        return image
    missing = (0, max(least - width, 0), 0, max(least - height, 0))
    return F.pad(image, missing, mode="replicate")

"""Protocols that look at an image in parts, as published scores use them.

- ``crops``: squares of 256 pixels that do not overlap, each predicted alone.
- ``whole``: the whole image at once.
- ``sliding``: windows of 256 pixels at stride 64, and the mean of their probabilities.

Where windows do not fit the image exactly, the last window of a row or column moves back inside.
Images are arrays or tensors whose last two axes are height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ctma.data.tiles import windows
from ctma.errors import UnknownNameError

WINDOW = 256
STRIDE = 64

See = Callable[[Any, Any], Any]
"""The change probability of a pair of images, (..., bands, H, W) to (..., H, W) in [0, 1]."""

Protocol = Callable[[See, Any, Any], Any]


def find_protocol(name: str) -> Protocol:
    """A protocol by name.

    A protocol takes a function that sees a pair, and the pair. It returns the change probability.

    Raises:
        UnknownNameError: If there is no such protocol.
    """
    if name not in PROTOCOLS:
        raise UnknownNameError("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def whole(see: See, before: Any, after: Any) -> Any:
    """Sees the whole image at once."""
    return see(before, after)


def crops(see: See, before: Any, after: Any, window: int = WINDOW) -> Any:
    """Sees each square alone; of a square that was moved back, only the new pixels count."""
    probability = None
    for area, part in _over_windows(see, before, after, window, stride=window, reverse=True):
        if probability is None:
            probability = _zeros(part, before.shape)
        probability[..., area[0], area[1]] = part
    return probability


def sliding(see: See, before: Any, after: Any, window: int = WINDOW, stride: int = STRIDE) -> Any:
    """Mean probability of overlapping windows."""
    total: Any = None
    count: Any = None
    for area, part in _over_windows(see, before, after, window, stride):
        if total is None:
            total, count = _zeros(part, before.shape), _zeros(part, before.shape)
        total[..., area[0], area[1]] += part
        count[..., area[0], area[1]] += 1
    return total / count


PROTOCOLS: dict[str, Protocol] = {"crops": crops, "whole": whole, "sliding": sliding}


def _over_windows(
    see: See, before: Any, after: Any, window: int, stride: int, reverse: bool = False
) -> Iterator[tuple[tuple[slice, slice], Any]]:
    """Areas and their probabilities; with ``reverse``, from the last window to the first."""
    height, width = before.shape[-2:]
    places = windows(height, width, window, stride)
    for place in reversed(places) if reverse else places:
        rows, columns = place.area
        yield place.area, see(before[..., rows, columns], after[..., rows, columns])


def _zeros(part: Any, shape: tuple[int, ...]) -> Any:
    """Zeros of the kind of a part's probability, over a whole image."""
    whole_shape = (*part.shape[:-2], *shape[-2:])
    if isinstance(part, np.ndarray):
        return np.zeros(whole_shape, part.dtype)
    return part.new_zeros(whole_shape)

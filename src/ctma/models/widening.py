"""Gives a network of more bands the weights of a network of fewer bands."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ctma.models.base import ChangeNetwork


@torch.no_grad()
def widen(small: ChangeNetwork, large: ChangeNetwork, places: Sequence[int]) -> None:
    """Gives a network the weights of the same network with fewer bands.

    The kernels of new bands start at zero. So the large network gives the same outputs as the small
    one, whatever the new bands hold, and training finds out what the new bands tell.

    Args:
        small: The network with weights.
        large: The same network with more bands; changed in place.
        places: For each band of the small network, its place among the bands of the large one.

    Raises:
        ValueError: If the networks differ in more than their bands, or the large one has no more.
    """
    if large.bands <= small.bands:
        raise ValueError(f"{small.bands} bands do not become {large.bands}")
    known = {**dict(small.named_parameters()), **dict(small.named_buffers())}
    state = large.state_dict()
    for name, weight in state.items():
        if name not in known:
            raise ValueError(f"{name} is missing")
        _put(known[name], weight, (small.bands, large.bands), places, name)
    missing = small.state_dict().keys() - state.keys()
    if missing:
        raise ValueError(f"{min(missing)} is surplus")


def _put(
    old: Tensor, new: Tensor, counts: tuple[int, int], places: Sequence[int], name: str
) -> None:
    """Copies a weight, band by band along the dimension in which both weights differ.

    Along the dimension lie the bands of one image or more, and then features, if any.
    """
    bands, more = counts
    if old.shape == new.shape:
        new.copy_(old)
        return
    sizes = zip(old.shape, new.shape, strict=False)
    differing = [axis for axis, (one, other) in enumerate(sizes) if one != other]
    if old.ndim != new.ndim or len(differing) != 1:
        raise ValueError(f"{name} is {tuple(old.shape)} and {tuple(new.shape)}")
    (axis,) = differing
    # Along the first dimension lie the mean and deviation of inputs; new bands keep their own.
    if axis:
        new.zero_()
    source, target = old.movedim(axis, 0), new.movedim(axis, 0)
    images = (len(target) - len(source)) // (more - bands)
    target[images * more :] = source[images * bands :]
    seen = target[: images * more].unflatten(0, (images, more))
    seen[:, list(places)] = source[: images * bands].unflatten(0, (images, bands))

"""What the networks share: the one output type, the one base class, common layers."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_CONVS = (nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)

MINIMUM_SIZE = 64
"""The smallest height and width, in pixels, that every network takes."""


class ChangeLogits(NamedTuple):
    """What every network returns.

    Attributes:
        fine: Change logits, (B, 1, H, W).
        auxiliary: Further logits that only losses use, each (B, 1, h, w) at its own size.
    """

    fine: Tensor
    auxiliary: tuple[Tensor, ...] = ()


class ChangeNetwork(nn.Module):
    """A network with the signature ``forward(before, after) -> ChangeLogits``.

    Inputs are (B, ``bands``, H, W) in [0, 1], with H and W of at least 64.

    Attributes:
        bands: Input channels of one date.
        temperature: What logits are divided by before they become probabilities; found by
            ``ctma calibrate``.
        offset: What is added to them then.
        header: What the checkpoint that the weights came from says of itself, if any.
        original_names: Pairs (pattern, replacement) for ``re.sub``, applied in turn, that
            make the released implementation's weight names out of ours; empty where
            there is none.
    """

    bands: int
    temperature: float = 1.0
    offset: float = 0.0
    header: Any = None
    original_names: tuple[tuple[str, str], ...] = ()

    def probability(self, logits: Tensor) -> Tensor:
        """Calibrated probabilities in [0, 1] of logits, float32."""
        return (logits.float() / self.temperature + self.offset).sigmoid()

    def check_inputs(self, before: Tensor, after: Tensor) -> None:
        """Refuses inputs that are unequal, too small or of other bands.

        Raises:
            ValueError: If the shapes cannot be used.
        """
        if before.shape != after.shape:
            raise ValueError(f"before is {tuple(before.shape)}, after is {tuple(after.shape)}")
        if before.ndim != 4 or before.shape[1] != self.bands:
            raise ValueError(f"expected (B, {self.bands}, H, W), got {tuple(before.shape)}")
        if min(before.shape[-2:]) < MINIMUM_SIZE:
            height, width = before.shape[-2:]
            raise ValueError(f"images of {height} x {width} are smaller than {MINIMUM_SIZE} pixels")


Module = TypeVar("Module", bound=nn.Module)


def channels_last(network: Module) -> Module:
    """Lays convolution weights out for channels-last arithmetic, about twice as fast on CPUs."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)
        elif isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)
    return network


def fused(network: Module) -> Module:
    """A copy for inference whose batch norms are folded into the convolutions before them.

    The same function to float32 rounding, with fewer passes over memory.

    Args:
        network: In evaluation mode.
    """
    copy = deepcopy(network)
    for block in [module for module in copy.modules() if isinstance(module, nn.Sequential)]:
        layers = list(block.named_children())
        for (name, conv), (next_name, norm) in pairwise(layers):
            if isinstance(conv, _CONVS) and isinstance(norm, _NORMS):
                setattr(block, name, fuse_conv_bn_eval(conv, norm))
                setattr(block, next_name, nn.Identity())
    return channels_last(copy)


def conv_bn(
    in_channels: int, out_channels: int, kernel: int = 3, dims: int = 2, stride: int = 1
) -> nn.Sequential:
    """Convolution without bias (zero padding that keeps the size), then batch norm.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel: Kernel size, odd, equal in all directions.
        dims: 2 for images, 3 for videos.
        stride: Stride, equal in all directions.
    """
    layers: dict[int, tuple[Any, Any]] = {
        2: (nn.Conv2d, nn.BatchNorm2d),
        3: (nn.Conv3d, nn.BatchNorm3d),
    }
    conv, norm = layers[dims]
    return nn.Sequential(
        conv(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        norm(out_channels),
    )


def resize_as(x: Tensor, like: Tensor) -> Tensor:
    """Nearest-neighbour resizing (floor indexing) of ``x`` to the height and width of ``like``."""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return F.interpolate(x, size=like.shape[-2:], mode="nearest")

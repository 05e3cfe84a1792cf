"""Layers that the networks share."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def channels_last(network: Module) -> Module:
    """Lays convolution weights out for channels-last arithmetic, about twice as fast on CPUs."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)
        elif isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)
    return network


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

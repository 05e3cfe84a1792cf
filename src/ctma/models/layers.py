"""Layers that the networks share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
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
    in_channels: int,
    out_channels: int,
    kernel: int = 3,
    dims: int = 2,
    stride: int = 1,
    bias: bool = False,
) -> nn.Sequential:
    """Convolution (zero padding that keeps the size), then batch norm.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel: Kernel size, odd, equal in all directions.
        dims: 2 for images, 3 for videos.
        stride: Stride, equal in all directions.
        bias: Whether the convolution has one, which the norm takes out again.
    """
    layers: dict[int, tuple[Any, Any]] = {
        2: (nn.Conv2d, nn.BatchNorm2d),
        3: (nn.Conv3d, nn.BatchNorm3d),
    }
    conv, norm = layers[dims]
    return nn.Sequential(
        conv(in_channels, out_channels, kernel, stride, kernel // 2, bias=bias),
        norm(out_channels),
    )


class JoinConv(nn.Sequential):
    """A 3 x 3 convolution with batch norm over a feature and one that is resized to it.

    Args:
        channels: Of the feature.
        joined: Of the other one, at its own size.
        out_channels: Channels out.
    """

    def __init__(self, channels: int, joined: int, out_channels: int):
        super().__init__(*conv_bn(channels + joined, out_channels))
        self.parts = (channels, joined)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """(B, channels, H, W) and (B, joined, h, w) to (B, out_channels, H, W)."""
        if other is not None:
            # Mixed types would be joined in the wider one, which the convolution narrows again.
            x = torch.cat([x.to(other.dtype), resize_as(other, x)], dim=1)
        return super().forward(x)


class ConvStack(nn.Sequential):
    """Convolutions of 3 x 3 with batch norm, each followed by ReLU and dropout of channels.

    Args:
        channels: In, between, and out.
        dropout: Share of channels that is dropped in training.
    """

    def __init__(self, channels: Sequence[int], dropout: float = 0.0):
        super().__init__(*(conv_bn(first, second) for first, second in pairwise(channels)))
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same height and width."""
        for conv in self:
            x = F.dropout2d(F.relu(conv(x), inplace=True), self.dropout, self.training)
        return x


class ChannelAttention(nn.Module):
    """Weights of channels in (0, 1) from their mean and maximum (Woo et al., CBAM, ECCV 2018).

    Args:
        channels: In and out.
        reduction: By how much the layer between is narrower.
    """

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Conv2d(channels, channels // reduction, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // reduction, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, 1, 1)."""
        mean, maximum = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        return (self.fc(mean) + self.fc(maximum)).sigmoid()


class SpatialAttention(nn.Module):
    """Weights of places in (0, 1) from mean and maximum over channels (Woo et al., CBAM).

    Args:
        kernel: Of the convolution over both.
    """

    def __init__(self, kernel: int = 7):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, 1, h, w)."""
        both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return self.conv(both).sigmoid()


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the second half of a batch, such as both dates of what was seen at once."""
    middle = x.shape[0] // 2
    return x[:middle], x[middle:]


def mean_and_maximum(video: Tensor) -> tuple[Tensor, Tensor]:
    """Over time, of (B, C, T, h, w): two (B, C, h, w)."""
    # Frame by frame: faster than reducing over the strided time axis, and the same to the last
    # bit on any number of threads.
    frames = video.unbind(dim=2)
    return reduce(torch.add, frames) / len(frames), reduce(torch.maximum, frames)


def fill_as(x: Tensor, like: Tensor) -> Tensor:
    """Repeats the right and the lower edge of ``x`` until it is as large as ``like``."""
    height, width = (want - have for want, have in zip(like.shape[-2:], x.shape[-2:], strict=True))
    if not (height or width or torch.jit.is_tracing()):
        return x
    return F.pad(x, (0, width, 0, height), mode="replicate")


def resize_as(x: Tensor, like: Tensor) -> Tensor:
    """Nearest-neighbour resizing (floor indexing) of ``x`` to the height and width of ``like``."""
    # A graph that is traced must hold what other sizes need.
    if x.shape[-2:] == like.shape[-2:] and not torch.jit.is_tracing():
        return x
    return F.interpolate(x, size=like.shape[-2:], mode="nearest")

"""Layers that the networks share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

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


class Rewriting(NamedTuple):
    """How ctma rewrites a network for inference.

    A layer may have a method ``for_inference(rewriting)``. The method returns the module that
    replaces the layer, or the layer itself. ctma calls the method on a copy of the network in
    evaluation mode, with folded batch norms.

    Attributes:
        joins: Whether to split convolutions over concatenated maps. Split convolutions need fewer
            multiplications, but more passes over memory.
        tiles: Whether to compute wide convolutions by transformed tiles (Winograd). This is for
            float32 on a CPU: GPU libraries already do so, and bf16 is too coarse.
    """

    joins: bool = True
    tiles: bool = False


class TrainingForm:
    """Base of layers with a faster form for training on CPUs; values are equal to rounding.

    Attributes:
        may_take_form: Whether the layer may use this form, see ``take_training_forms``.
    """

    training: bool
    may_take_form: bool = False

    def learns_on_cpu(self, images: Tensor) -> bool:
        """Whether the layer uses its form for training."""
        return self.may_take_form and self.training and images.device.type == "cpu"


def take_training_forms(network: nn.Module, *, take: bool = True) -> None:
    """Allows or forbids layers to use their form for training on CPUs."""
    for module in network.modules():
        if isinstance(module, TrainingForm):
            module.may_take_form = take


class Conv3d(TrainingForm, nn.Conv3d):
    """A convolution over a video."""

    def forward(self, video: Tensor) -> Tensor:
        """(B, C, T, H, W) to (B, out, t, h, w)."""
        if self.learns_on_cpu(video):
            if {*self.kernel_size, *self.stride, self.groups} == {1}:
                return self._frame_by_frame(video)
            if video.shape[2] < self.kernel_size[0]:
                return self._padded(video)
        return super().forward(video)

    def _frame_by_frame(self, video: Tensor) -> Tensor:
        """A 1 x 1 x 1 convolution as a 2-D convolution over frames stacked vertically.

        For some sizes, the bf16 gradient of the 3-D convolution never ends (torch 2.15: 512
        channels of 4 x 32 x 32 values to 128).
        """
        frames = F.conv2d(video.flatten(2, 3), self.weight[:, :, 0], self.bias)
        return frames.unflatten(2, video.shape[2:4])

    def _padded(self, video: Tensor) -> Tensor:
        """Pads a video that is shorter than the kernel, then convolves it.

        Without this, bf16 gradients on CPUs contain uninitialised memory, sometimes NaN (oneDNN
        in torch 2.15: 3 x 3 x 3 over two frames).
        """
        assert not isinstance(self.padding, str)
        frames, *sides = self.padding
        video = F.pad(video, (0, 0, 0, 0, frames, frames))
        return F.conv3d(
            video, self.weight, self.bias, self.stride, (0, *sides), self.dilation, self.groups
        )


class DepthwiseConv(TrainingForm, nn.Conv2d):
    """A depthwise convolution: each channel has its own kernel."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, h, w)."""
        if not self.learns_on_cpu(x):
            return super().forward(x)
        # Gradients take four to eight times as long in bf16 as in float32.
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.to(self.weight.dtype))


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
        bias: Whether the convolution has a bias. The batch norm cancels the bias.
    """
    layers: dict[int, tuple[Any, Any]] = {
        2: (nn.Conv2d, nn.BatchNorm2d),
        3: (Conv3d, nn.BatchNorm3d),
    }
    conv, norm = layers[dims]
    return nn.Sequential(
        conv(in_channels, out_channels, kernel, stride, kernel // 2, bias=bias),
        norm(out_channels),
    )


class JoinConv(nn.Sequential):
    """A 3 x 3 convolution with batch norm over a feature and a second, resized feature.

    Args:
        channels: Channels of the feature.
        joined: Channels of the second feature, which may have another height and width.
        out_channels: Channels out.
    """

    def __init__(self, channels: int, joined: int, out_channels: int):
        super().__init__(*conv_bn(channels + joined, out_channels))
        self.parts = (channels, joined)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """(B, channels, H, W) and (B, joined, h, w) to (B, out_channels, H, W)."""
        if other is not None:
            # Otherwise torch.cat takes the wider type, and the convolution narrows the map again.
            x = torch.cat([x.to(other.dtype), resize_as(other, x)], dim=1)
        return super().forward(x)

    def for_inference(self, rewriting: Rewriting) -> nn.Module:
        """The split form, if the layer joins two features."""
        return SplitJoin(self) if rewriting.joins and self.parts[1] else self


class SplitJoin(nn.Module):
    """A convolution over two concatenated maps, split into one convolution a map and a sum.

    After enlargement by 2, each value of the map occurs four times. So the 3 x 3 convolution over
    the enlarged map equals a transposed convolution of the map, at 4/9 of the work.
    """

    def __init__(self, join: JoinConv):
        super().__init__()
        self.join = join
        conv: Any = join[0]
        channels, joined = join.parts
        kernel = conv.weight[:, channels:]
        self.own = nn.Conv2d(channels, conv.out_channels, 3, padding=1)
        self.own.weight = nn.Parameter(conv.weight[:, :channels])
        self.own.bias = conv.bias
        self.enlarged = nn.ConvTranspose2d(joined, conv.out_channels, 4, 2, 1, bias=False)
        self.enlarged.weight = nn.Parameter(_over_enlarged(kernel))

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """The outputs of the ``JoinConv``; splits if the other map has half the size."""
        if x.shape[-2] == 2 * other.shape[-2] and x.shape[-1] == 2 * other.shape[-1]:
            return self.own(x) + self.enlarged(other)
        return self.join(x, other)


def _over_enlarged(kernel: Tensor) -> Tensor:
    """Turns a kernel (out, in, 3, 3) over a map enlarged by 2 into one over the map itself.

    Returns:
        The kernel (in, out, 4, 4) of a transposed convolution of stride 2.
    """
    flipped = kernel.flip(2, 3).flatten(0, 1)[:, None]
    spread = F.conv2d(flipped, torch.ones_like(flipped[:1, :, :2, :2]), padding=1)
    return spread.view(*kernel.shape[:2], 4, 4).transpose(0, 1).contiguous()


class ConvStack(nn.Sequential):
    """3 x 3 convolutions with batch norm, each followed by ReLU and dropout of channels.

    Args:
        channels: Channels in, between the convolutions, and out.
        dropout: Share of channels to drop in training.
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
        channels: Channels in and out.
        reduction: Factor by which the hidden layer is narrower.
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
    """Weights of pixels in (0, 1) from mean and maximum over channels (Woo et al., CBAM).

    Args:
        kernel: Kernel size of the convolution over mean and maximum.
    """

    def __init__(self, kernel: int = 7):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, 1, h, w)."""
        both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return self.conv(both).sigmoid()


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the second half of a batch, such as the two dates of one joint batch."""
    middle = x.shape[0] // 2
    return x[:middle], x[middle:]


def fill_as(x: Tensor, like: Tensor) -> Tensor:
    """Repeats the right and the lower edge of ``x`` until it is as large as ``like``."""
    height, width = (want - have for want, have in zip(like.shape[-2:], x.shape[-2:], strict=True))
    if not (height or width or torch.jit.is_tracing()):
        return x
    return F.pad(x, (0, width, 0, height), mode="replicate")


def resize_as(x: Tensor, like: Tensor) -> Tensor:
    """Nearest-neighbour resizing (floor indexing) of ``x`` to the height and width of ``like``."""
    # A traced graph must contain the resizing, for inputs of other sizes.
    if x.shape[-2:] == like.shape[-2:] and not torch.jit.is_tracing():
        return x
    return F.interpolate(x, size=like.shape[-2:], mode="nearest")

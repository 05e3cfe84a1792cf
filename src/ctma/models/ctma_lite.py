"""CTMA-Lite: CTMA's idea on pretrained features of several strides.

A cheaper variant of the structure of arXiv 2408.08078. The pseudo-video consists of features
instead of pixels, and the temporal encoder is depthwise. The masked branch takes the features
of the unmasked branch, multiplied by the coarse mask. The outputs do not depend on the order of
the two dates. Docstrings give shapes for B pairs of H x W images and N frames; H and W are padded
to multiples of 16.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctma.models.backbones import Pyramid
from ctma.models.base import ChangeLogits, ChangeNetwork
from ctma.models.layers import (
    DepthwiseConv,
    JoinConv,
    Rewriting,
    conv_bn,
    halves,
    resize_as,
)

STRIDES = (2, 4, 8, 16)
"""Strides of the features, from fine to coarse; the video has stride 4, the coarse mask 8."""

STILL = -20.0
"""The logit where both dates are the same."""


class LiteStages(NamedTuple):
    """All intermediate results of CTMA-Lite.

    Attributes:
        coarse_logits: Logits of the coarse head, (B, 1, H/8, W/8).
        coarse_mask: 1 where the coarse probability exceeds 0.5, (B, 1, H, W).
        motion: Motion features M1 (B, C, H/4, W/4) and M2 (B, C, H/8, W/8); empty without a
            temporal encoder.
        levels: Comparison features of both dates, one map for each of ``STRIDES``.
        fused_logits: Weighted sum of both branches' logits, (B, 1, H, W).
    """

    coarse_logits: Tensor
    coarse_mask: Tensor
    motion: list[Tensor]
    levels: list[Tensor]
    fused_logits: Tensor


class CTMALite(ChangeNetwork):
    """A compact CTMA on a backbone with ImageNet weights.

    Swapped dates give the same logits. Pixels whose features are equal at both dates are unchanged.

    Args:
        bands: Input channels of one date.
        video_len: Frames N of the pseudo-video, an even number; 0 removes the temporal encoder.
        fusion: Weight of the unmasked branch in the fused logits, in [0, 1]; 1 removes the masked
            branch.
        backbone: A timm network with features at strides 2, 4, 8 and 16.
        pretrained: ImageNet weights for the backbone: ``True``, or a file.
        widths: Channels of the levels, from fine to coarse.
        motion_width: Channels of the motion features.
    """

    stride = STRIDES[-1]
    backbone_part = "backbone."

    def __init__(
        self,
        bands: int = 3,
        video_len: int = 8,
        fusion: float = 0.5,
        backbone: str = "tf_efficientnet_lite0",
        pretrained: bool | str | Path = False,
        widths: Sequence[int] = (32, 48, 64, 96),
        motion_width: int = 32,
    ):
        super().__init__()
        if video_len < 0 or video_len % 2:
            raise ValueError(f"video_len is {video_len}, must be even, or 0")
        if not 0 <= fusion <= 1:
            raise ValueError(f"fusion is {fusion}, must be between 0 and 1")
        if len(widths) != len(STRIDES) or min(*widths, motion_width, bands) < 1:
            raise ValueError(
                f"widths is {list(widths)}, motion_width {motion_width}, bands {bands}: must be "
                "four numbers, one and one, all at least 1"
            )
        self.bands = bands
        self.fusion = fusion
        self.backbone = Pyramid(backbone, bands, STRIDES, pretrained)
        channels = self.backbone.channels
        self.temporal_encoder = (
            TemporalEncoder(channels[1], motion_width, video_len) if video_len else None
        )
        motion = (0, motion_width, motion_width, 0) if video_len else (0, 0, 0, 0)
        self.comparisons = nn.ModuleList(map(Comparison, channels, motion, widths))
        self.coarse_head = nn.Conv2d(widths[2], 1, 1)
        self.unmasked_decoder = Decoder(widths, widths)
        narrow = [width // 2 for width in widths]
        self.masked_decoder = Decoder(widths, narrow) if fusion < 1 else None
        self.enlarge = Enlarge()

    def forward(self, before: Tensor, after: Tensor) -> ChangeLogits:
        """Change logits of image pairs, with the coarse logits as auxiliary output.

        Args:
            before: (B, bands, H, W) in [0, 1], H and W at least 64.
            after: The same shape.
        """
        stages = self.stages(before, after)
        return ChangeLogits(stages.fused_logits, (stages.coarse_logits,))

    def stages(self, before: Tensor, after: Tensor) -> LiteStages:
        """The forward pass with all intermediate results; takes the inputs of ``forward``."""
        self.check_inputs(before, after)
        both = torch.cat([before, after]).to(memory_format=torch.channels_last)
        befores, afters = zip(
            *(halves(features) for features in self.backbone(both)),
            strict=True,
        )
        video = self.temporal_encoder
        motion: list[Tensor] = [] if video is None else video(befores[1], afters[1])
        joined = (None, *(motion or (None, None)), None)
        levels = [
            F.relu(compare(features))
            for compare, *features in zip(self.comparisons, befores, afters, joined, strict=True)
        ]
        coarse_logits = self.coarse_head(levels[2])
        coarse_mask = (coarse_logits.detach().sigmoid() > 0.5).to(coarse_logits.dtype)
        logits = self.unmasked_decoder(levels)
        if self.masked_decoder is not None:
            masked = [level * resize_as(coarse_mask, level) for level in levels]
            logits = self.fusion * logits + (1 - self.fusion) * self.masked_decoder(masked)
        moved = (befores[0] - afters[0]).abs().amax(dim=1, keepdim=True)
        logits = torch.where(_repeat(moved, 2) == 0, STILL, self.enlarge(logits))
        coarse_mask, logits = (_crop(x, before) for x in (_repeat(coarse_mask, 8), logits))
        return LiteStages(coarse_logits, coarse_mask, motion, levels, logits)


class Comparison(nn.Sequential):
    """Compares the features of two dates at one stride; swapped dates give equal values.

    Args:
        channels: Channels of the features of one date.
        motion: Channels of the motion features, or 0.
        out_channels: Channels out.
    """

    def __init__(self, channels: int, motion: int, out_channels: int):
        super().__init__(*conv_bn(3 * channels + motion, out_channels, kernel=1))
        self.channels = channels

    def forward(self, features: Sequence[Tensor | None]) -> Tensor:
        """Features of before and after, and motion features or ``None``, to one map.

        The maps are (B, channels, h, w), (B, motion, h, w), and (B, out_channels, h, w).
        """
        before, after, *more = (one for one in features if one is not None)
        both = [before + after, (before - after).abs(), torch.maximum(before, after)]
        return super().forward(torch.cat([*both, *more], dim=1))

    def for_inference(self, _: Rewriting) -> nn.Module:
        """The form without the maximum."""
        return ShortComparison(self)


class ShortComparison(nn.Module):
    """A comparison without the maximum, which is half the sum of the other two parts."""

    def __init__(self, comparison: Comparison):
        super().__init__()
        conv: Any = comparison[0]
        kernel = conv.weight
        total, difference, maximum = kernel[:, : 3 * comparison.channels].chunk(3, dim=1)
        motion = kernel[:, 3 * comparison.channels :]
        kernel = torch.cat([total + maximum / 2, difference + maximum / 2, motion], dim=1)
        self.conv = nn.Conv2d(kernel.shape[1], conv.out_channels, 1)
        self.conv.weight, self.conv.bias = nn.Parameter(kernel), conv.bias

    def forward(self, features: Sequence[Tensor | None]) -> Tensor:
        """The outputs of the ``Comparison``."""
        before, after, *more = (one for one in features if one is not None)
        return self.conv(torch.cat([before + after, (before - after).abs(), *more], dim=1))


class TemporalEncoder(nn.Module):
    """Motion features of a pseudo-video of features, equal for both directions of time."""

    def __init__(self, channels: int, width: int, frames: int):
        super().__init__()
        self.frames = frames
        self.stem = conv_bn(channels, width, kernel=1)
        self.t_blocks = nn.ModuleList([TBlock(width, stride=1), TBlock(width, stride=2)])
        self.tams = nn.ModuleList(conv_bn(2 * width, width, kernel=1) for _ in range(2))

    def forward(self, before: Tensor, after: Tensor) -> list[Tensor]:
        """Two (B, C, h, w) to M1 (B, width, h, w) and M2 (B, width, h/2, w/2)."""
        last = self.frames - 1
        # With these weights, swapped dates give the same frames in reverse order, to the last bit.
        frames = [before * ((last - i) / last) + after * (i / last) for i in range(self.frames)]
        video = F.relu(self.stem(torch.cat(frames)))
        motion = []
        for t_block, tam in zip(self.t_blocks, self.tams, strict=True):
            video = t_block(video, self.frames)
            motion.append(F.relu(tam(_summary(video.reshape(self.frames, -1, *video.shape[1:])))))
        return motion


class TBlock(nn.Module):
    """A separable convolution over space and time; the kernel is symmetric in time."""

    def __init__(self, width: int, stride: int):
        super().__init__()
        # Depthwise convolutions with a stride have slow gradients in bf16.
        depthwise = DepthwiseConv if stride > 1 else nn.Conv2d
        self.own = depthwise(width, width, 3, stride, 1, groups=width, bias=False)
        self.near = depthwise(width, width, 3, stride, 1, groups=width, bias=False)
        self.mix = conv_bn(width, width, kernel=1)

    def forward(self, video: Tensor, frames: int) -> Tensor:
        """(N B, C, h, w), sorted by frame, to the same or half the height and width."""
        count = video.shape[0] // frames
        earlier = torch.cat([video[:count], video[:-count]])
        later = torch.cat([video[count:], video[-count:]])
        return F.relu(self.mix(self.own(video) + self.near(earlier + later)))


class Decoder(nn.Module):
    """Enlarges the coarsest level, joins each finer level by one convolution, and gives logits."""

    def __init__(self, skips: Sequence[int], widths: Sequence[int]):
        super().__init__()
        self.bottom = nn.Identity() if skips == widths else conv_bn(skips[-1], widths[-1], kernel=1)
        self.convs = nn.ModuleList(
            JoinConv(skips[i], widths[i + 1], widths[i]) for i in reversed(range(len(skips) - 1))
        )
        self.out = nn.Conv2d(widths[0], 1, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Turns levels, sorted from fine to coarse, into logits at the size of the finest level."""
        x = self.bottom(levels[-1])
        for conv, level in zip(self.convs, reversed(levels[:-1]), strict=True):
            x = F.relu(conv(level, x))
        return self.out(x)


class Enlarge(nn.Module):
    """Enlarges a map of one channel by 2, bilinearly."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, h, w) to (B, 1, 2h, 2w)."""
        return F.interpolate(x, scale_factor=2.0, mode="bilinear")

    def for_inference(self, _: Rewriting) -> nn.Module:
        """The form that is a convolution."""
        return ConvEnlarge()


class ConvEnlarge(nn.Module):
    """The enlargement as a convolution to the four pixels of each value.

    OpenVINO resizes one channel slowly: for CTMA-Lite in 4 % of the time.
    """

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        near = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.75, 0.25]])
        kernel = torch.einsum("ar,bc->abrc", near, near).reshape(4, 1, 3, 3)
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, h, w) to (B, 1, 2h, 2w)."""
        x = F.pad(x, (1, 1, 1, 1), mode="replicate")
        return F.pixel_shuffle(F.conv2d(x, self.kernel), 2)


def _repeat(x: Tensor, factor: int) -> Tensor:
    """Enlarges a map by repeating each value."""
    return F.interpolate(x, scale_factor=float(factor), mode="nearest")


def _crop(x: Tensor, like: Tensor) -> Tensor:
    """Crops the padding of the images."""
    height, width = like.shape[-2:]
    return x[..., :height, :width]


def _summary(video: Tensor) -> Tensor:
    """Mean and maximum over time of (N, B, C, h, w), N even: (B, 2C, h, w)."""
    # Sums pairs from both ends, so that the mean is the same in either direction, to the last bit.
    first, second = video.chunk(2)
    mean = (first + second.flip(0)).sum(0) / len(video)
    return torch.cat([mean, video.amax(0)], dim=1)

"""The pseudo-video of CTMA, its first block (T-Block I) and its summary over time (TAM).

Each frame of the pseudo-video is an affine function of its frame number. So a convolution over
space and time reduces to two 2-D convolutions for any number of frames: one over the first image,
and one over the difference of both images.
"""

from __future__ import annotations

from functools import reduce
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from ctma.models.layers import Conv3d, Rewriting, TrainingForm, conv_bn


def pseudo_video(before: Tensor, after: Tensor, frames: int) -> Tensor:
    """Frames that lead from one image to the other in equal steps.

    Args:
        before: (B, C, H, W).
        after: The same shape.
        frames: Number of frames N; the first frame is ``before``, the last ``after``.

    Returns:
        The pseudo-video, (B, C, N, H, W).
    """
    steps = torch.arange(frames, device=before.device, dtype=before.dtype) / (frames - 1)
    return before.unsqueeze(2) + steps.view(-1, 1, 1) * (after - before).unsqueeze(2)


class Stem(TrainingForm, nn.Sequential):
    """T-Block I: a convolution over space and time on the pseudo-video."""

    def __init__(self, bands: int, width: int):
        super().__init__(
            Conv3d(bands, width, (3, 9, 9), (1, 4, 4), (1, 4, 4), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
        )

    def forward(self, before: Tensor, after: Tensor, frames: int) -> Tensor:  # type: ignore
        """Two (B, bands, H, W) to (B, width, N, H/4, W/4)."""
        if self.learns_on_cpu(before):
            return self._affine(before, after, frames)
        return super().forward(pseudo_video(before, after, frames))

    def for_inference(self, _: Rewriting) -> nn.Module:
        """The form that uses the first image and the difference of both images."""
        return AffineStem(self)

    def _affine(self, before: Tensor, after: Tensor, frames: int) -> Tensor:
        conv, norm, activation = self
        assert isinstance(conv, Conv3d)
        kernel, (_, *padding) = taps_in_time(conv.weight), cast("tuple[int, ...]", conv.padding)
        still, moved = (
            F.conv2d(image, kernel, stride=conv.stride[1:], padding=padding)
            for image in (before, after - before)
        )
        video = torch.stack(affine_video(still, moved, frames), dim=2)
        return activation(norm(video.contiguous(memory_format=torch.channels_last_3d)))


class AffineStem(nn.Module):
    """A stem over the pseudo-video, computed from the first image and the difference of both.

    Frame n is I1 + n / (N - 1) (I2 - I1). So the output of each temporal kernel tap is an affine
    function of n. At the first and the last frame, one tap lies outside the video.
    """

    def __init__(self, stem: Stem):
        super().__init__()
        conv: Any = stem[0]
        self.conv = nn.Conv2d(
            conv.in_channels, 3 * conv.out_channels, conv.kernel_size[1:], conv.stride[1:],
            conv.padding[1:], bias=False,
        )  # fmt: skip
        self.conv.weight = nn.Parameter(taps_in_time(conv.weight))
        self.bias = nn.Parameter(conv.bias[:, None, None])

    def forward(self, before: Tensor, after: Tensor, frames: int) -> Tensor:
        """Two (B, bands, H, W) to (B, width, N, H/4, W/4)."""
        video = affine_video(self.conv(before), self.conv(after - before), frames, self.bias)
        return F.relu(torch.stack(video, dim=2), inplace=True)


def taps_in_time(kernel: Tensor) -> Tensor:
    """The sum of all temporal taps of a kernel (C, bands, 3, h, w), its first tap and its last tap.

    Returns:
        The three 2-D kernels in this order, (3 C, bands, h, w).
    """
    earlier, now, later = kernel.unbind(2)
    return torch.cat([earlier + now + later, earlier, later])


def affine_video(
    still: Tensor, moved: Tensor, frames: int, bias: Tensor | float = 0.0
) -> list[Tensor]:
    """Computes the outputs of a convolution over the pseudo-video.

    Args:
        still: Outputs of the ``taps_in_time`` kernels over the first image, (B, 3 C, H, W).
        moved: Outputs of these kernels over the difference of both images, same shape.
        frames: Number of frames N.
        bias: Bias of the convolution, (C, 1, 1).

    Returns:
        N maps of (B, C, H, W).
    """
    still, still_first, still_last = still.chunk(3, dim=1)
    moved, moved_first, moved_last = moved.chunk(3, dim=1)
    step = 1 / (frames - 1)
    start = still + bias + step * (moved_last - moved_first)
    video = [start + n * step * moved for n in range(frames)]
    # Subtracts the taps beyond the ends of the video: those on frame -1 and on frame N.
    video[0] = video[0] - (still_first - step * moved_first)
    video[-1] = video[-1] - (still_last + (1 + step) * moved_last)
    return video


class TemporalAggregation(TrainingForm, nn.Module):
    """TAM: mean and maximum over time, mixed by a 1 x 1 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.mix = conv_bn(2 * channels, channels, kernel=1)

    def forward(self, video: Tensor) -> Tensor:
        """(B, C, T, h, w) to (B, C, h, w)."""
        summarise = _MeanAndMaximum.apply if self.learns_on_cpu(video) else mean_and_maximum
        return F.relu(self.mix(torch.cat(summarise(video), dim=1)), inplace=True)


def mean_and_maximum(video: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and maximum over time of (B, C, T, h, w), each (B, C, h, w)."""
    # Frame by frame is faster than a reduction over the strided time axis. The results are equal
    # to the last bit on any number of threads.
    frames = video.unbind(dim=2)
    return reduce(torch.add, frames) / len(frames), reduce(torch.maximum, frames)


class _MeanAndMaximum(torch.autograd.Function):
    """Mean and maximum over time; frames with the same maximum share its gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, video: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, T, h, w) to two (B, C, h, w)."""
        mean, largest = mean_and_maximum(video)
        ctx.save_for_backward(video, largest)
        return mean, largest

    @staticmethod
    def backward(ctx: Any, mean: Tensor, largest: Tensor) -> Tensor:
        """Turns the gradients of mean and maximum into the gradient of the video."""
        video, limit = ctx.saved_tensors
        at_limit = [frame == limit for frame in video.unbind(dim=2)]
        share = largest / reduce(torch.add, [frame.to(largest.dtype) for frame in at_limit])
        mean = mean / len(at_limit)
        gradient = torch.empty_like(video)
        for n, frame in enumerate(at_limit):
            torch.add(mean, share * frame, out=gradient.select(2, n))
        return gradient

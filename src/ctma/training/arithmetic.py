"""How a training computes where the obvious way is slow: the same, to rounding."""

from __future__ import annotations

from functools import partial, reduce
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from ctma.inference.engines.exact import affine_video, kept_places, taps_in_time
from ctma.models.ctma import DifferencePath, Stem, TemporalAggregation
from ctma.models.layers import halves


def speed_up(network: nn.Module) -> None:
    """Lets a network compute in less time on CPUs (``benchmarks/training.py``).

    Args:
        network: Changed in place; its weights are as before.
    """
    ways: dict[type[nn.Module], Any] = {
        Stem: _affine, DifferencePath: _sparse, TemporalAggregation: _aggregated,
    }  # fmt: skip
    for module in network.modules():
        layer: Any = module
        if type(module) in ways:
            layer.forward = partial(ways[type(module)], module, module.forward)
        elif _is_flat(module):
            layer.forward = partial(_flat, module)
        elif _is_slow_depthwise(module):
            layer.forward = partial(_unconverted, module, module.forward)


def as_written(network: nn.Module) -> None:
    """Undoes :func:`speed_up`.

    Args:
        network: Changed in place; its weights are as before.
    """
    for module in network.modules():
        if isinstance(vars(module).get("forward"), partial):
            del module.forward


def _is_flat(module: nn.Module) -> TypeGuard[nn.Conv3d]:
    """Whether each place of a video is convolved alone."""
    return (
        type(module) is nn.Conv3d
        and {*module.kernel_size, *module.stride, module.groups} == {1}
        and module.padding == (0, 0, 0)
    )


def _is_slow_depthwise(module: nn.Module) -> bool:
    """Whether gradients take four to eight times as long in bf16 as in float32."""
    return (
        isinstance(module, nn.Conv2d)
        and module.groups == module.in_channels > 1
        and (max(module.kernel_size) > 3 or max(module.stride) > 1)
    )


def _unconverted(conv: Any, forward: Any, x: Tensor) -> Tensor:
    """In the type of the weights, autocast or not."""
    with torch.autocast(x.device.type, enabled=False):
        return forward(x.to(conv.weight.dtype))


def _flat(conv: nn.Conv3d, video: Tensor) -> Tensor:
    """A convolution of 1 x 1 x 1, frames below each other.

    Its gradient in three dimensions never comes to an end in bf16 for some sizes (torch 2.15:
    of 512 channels, 4 x 32 x 32 values, to 128).
    """
    frames = F.conv2d(video.flatten(2, 3), conv.weight[:, :, 0], conv.bias)
    return frames.unflatten(2, video.shape[2:4])


def _affine(stem: Any, _: Any, before: Tensor, after: Tensor, frames: int) -> Tensor:
    """A stem over the pseudo-video, from the first image and the difference of both."""
    conv, *rest = stem
    kernel = taps_in_time(conv.weight)
    still, moved = (
        F.conv2d(image, kernel, stride=conv.stride[1:], padding=conv.padding[1:])
        for image in (before, after - before)
    )
    video = torch.stack(affine_video(still, moved, frames), dim=2)
    return nn.Sequential(*rest)(video.contiguous(memory_format=torch.channels_last_3d))


def _sparse(path: Any, forward: Any, before: Tensor, after: Tensor) -> Tensor:
    """Difference features where level 3 keeps them; at other sizes the path's own."""
    if before.shape[-2] % 8 or before.shape[-1] % 8:
        return forward(before, after)
    first, second = (
        halves(path.backbone(torch.cat([before, after])))
        if path.joint_statistics or not path.training
        else (path.backbone(before), path.backbone(after))
    )
    apart = F.pad(first - second, (1, 0, 1, 0))
    # The difference has no bias, but the optimizer wants its gradient, which is 0.
    return F.conv2d(apart, kept_places(path.project.weight), 0 * path.project.bias).abs()


def _aggregated(aggregation: Any, _: Any, video: Tensor) -> Tensor:
    """Temporal aggregation."""
    summary = torch.cat(_MeanAndMaximum.apply(video), dim=1)
    return F.relu(aggregation.mix(summary), inplace=True)


class _MeanAndMaximum(torch.autograd.Function):
    """Over time; frames that are equally large share the gradient of the maximum."""

    @staticmethod
    def forward(ctx: FunctionCtx, video: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, T, h, w) to two (B, C, h, w)."""
        frames = video.unbind(dim=2)
        largest = reduce(torch.maximum, frames)
        ctx.save_for_backward(video, largest)
        return reduce(torch.add, frames) / len(frames), largest

    @staticmethod
    def backward(ctx: Any, mean: Tensor, largest: Tensor) -> Tensor:
        """Of both to that of the video."""
        video, limit = ctx.saved_tensors
        found = [frame == limit for frame in video.unbind(dim=2)]
        share = largest / reduce(torch.add, [one.to(largest.dtype) for one in found])
        mean = mean / len(found)
        gradient = torch.empty_like(video)
        for n, one in enumerate(found):
            torch.add(mean, share * one, out=gradient.select(2, n))
        return gradient

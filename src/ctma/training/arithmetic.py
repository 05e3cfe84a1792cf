"""How a training computes where the obvious way is slow: the same, to rounding."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from ctma.inference.engines.exact import affine_video, kept_places, taps_in_time
from ctma.memory import keep_memory
from ctma.models.base import ChangeNetwork
from ctma.models.ctma import DifferencePath, Stem, TemporalAggregation
from ctma.models.layers import mean_and_maximum


def speed_up(network: ChangeNetwork) -> None:
    """Lets a network compute in less time on a CPU (``benchmarks/training.py``).

    Args:
        network: Changed in place; its weights are as before. Left alone on other devices.
    """
    if network.device.type != "cpu":
        return
    keep_memory()
    for module in network.modules():
        way, layer = _find_way(module), cast(Any, module)
        if way is not None:
            layer.forward = partial(way, module)


def as_written(network: nn.Module) -> None:
    """Undoes :func:`speed_up`.

    Args:
        network: Changed in place; its weights are as before.
    """
    for module in network.modules():
        if isinstance(vars(module).get("forward"), partial):
            del module.forward


def _find_way(module: nn.Module) -> Callable[..., Tensor] | None:
    """What does the same as a layer in less time."""
    if _is_flat(module):
        return _flat
    if _is_over_time(module):
        return _padded
    if _is_slow_depthwise(module):
        return _unconverted
    ways: dict[type[nn.Module], Callable[..., Tensor]] = {
        Stem: _affine, DifferencePath: _sparse, TemporalAggregation: _aggregated,
    }  # fmt: skip
    return ways.get(type(module))


def _is_flat(module: nn.Module) -> bool:
    """Whether each place of a video is convolved alone."""
    return (
        type(module) is nn.Conv3d
        and {*module.kernel_size, *module.stride, module.groups} == {1}
        and module.padding == (0, 0, 0)
    )


def _is_over_time(module: nn.Module) -> bool:
    """Whether several frames of a video are convolved to one."""
    return type(module) is nn.Conv3d and module.kernel_size[0] > 1


def _is_slow_depthwise(module: nn.Module) -> bool:
    """Whether gradients take four to eight times as long in bf16 as in float32."""
    return (
        isinstance(module, nn.Conv2d)
        and module.groups == module.in_channels > 1
        and (max(module.kernel_size) > 3 or max(module.stride) > 1)
    )


def _unconverted(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """In the type of the weights, autocast or not."""
    with torch.autocast(x.device.type, enabled=False):
        return type(conv).forward(conv, x.to(conv.weight.dtype))


def _flat(conv: nn.Conv3d, video: Tensor) -> Tensor:
    """A convolution of 1 x 1 x 1, frames below each other.

    Its gradient in three dimensions never comes to an end in bf16 for some sizes (torch 2.15:
    of 512 channels, 4 x 32 x 32 values, to 128).
    """
    frames = F.conv2d(video.flatten(2, 3), conv.weight[:, :, 0], conv.bias)
    return frames.unflatten(2, video.shape[2:4])


def _padded(conv: Any, video: Tensor) -> Tensor:
    """A convolution over time, its frames padded beforehand where the video is shorter.

    Gradients of kernels that reach beyond both ends of a video hold memory that was never written
    in bf16 on CPUs, at times no numbers (oneDNN in torch 2.15: 3 x 3 x 3 over two frames).
    """
    if video.shape[2] >= conv.kernel_size[0]:
        return nn.Conv3d.forward(conv, video)
    frames, *sides = conv.padding
    video = F.pad(video, (0, 0, 0, 0, frames, frames))
    return F.conv3d(
        video, conv.weight, conv.bias, conv.stride, (0, *sides), conv.dilation, conv.groups
    )


def _affine(stem: Any, before: Tensor, after: Tensor, frames: int) -> Tensor:
    """A stem over the pseudo-video, from the first image and the difference of both."""
    conv, *rest = stem
    kernel = taps_in_time(conv.weight)
    still, moved = (
        F.conv2d(image, kernel, stride=conv.stride[1:], padding=conv.padding[1:])
        for image in (before, after - before)
    )
    video = torch.stack(affine_video(still, moved, frames), dim=2)
    return nn.Sequential(*rest)(video.contiguous(memory_format=torch.channels_last_3d))


def _sparse(path: Any, before: Tensor, after: Tensor) -> Tensor:
    """Difference features where level 3 keeps them; at other sizes the path's own."""
    if before.shape[-2] % 8 or before.shape[-1] % 8:
        return DifferencePath.forward(path, before, after)
    first, second = path.of_both(path.backbone, before, after)
    apart = F.pad(first - second, (1, 0, 1, 0))
    # The difference has no bias, but the optimizer wants its gradient, which is 0.
    return F.conv2d(apart, kept_places(path.project.weight), 0 * path.project.bias).abs()


def _aggregated(aggregation: TemporalAggregation, video: Tensor) -> Tensor:
    """Temporal aggregation."""
    summary = torch.cat(_MeanAndMaximum.apply(video), dim=1)
    return F.relu(aggregation.mix(summary), inplace=True)


class _MeanAndMaximum(torch.autograd.Function):
    """Over time; frames that are equally large share the gradient of the maximum."""

    @staticmethod
    def forward(ctx: FunctionCtx, video: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, T, h, w) to two (B, C, h, w)."""
        mean, largest = mean_and_maximum(video)
        ctx.save_for_backward(video, largest)
        return mean, largest

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

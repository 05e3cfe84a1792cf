"""Torch on a network that is rewritten: the same function to rounding, with fewer multiplications.

What is saved, over batch norms that are folded into convolutions:

- The frames of the pseudo-video are affine in their number, so a convolution over space and
  time is one over the first image and one over the difference of both, whatever their number.
- A 3 x 3 convolution over a map enlarged twice sees each value four times: it is a transposed
  convolution of the map itself, at 4/9 of the work. A convolution over joined maps is the sum
  of one over each.
- A 3 x 3 convolution of many channels is one of transformed tiles (:mod:`.winograd`).
- Features that are enlarged twice, convolved, and reduced twice: one place of four is kept, and
  only that is computed; and the difference of two convolutions is that of what goes in.
"""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ctma.inference.engines.eager import Eager
from ctma.inference.engines.winograd import Winograd, is_wide
from ctma.memory import keep_memory
from ctma.models.backbones import Pyramid
from ctma.models.base import ChangeLogits, ChangeNetwork
from ctma.models.ctma import DifferencePath, Stem
from ctma.models.layers import JoinConv, Module, channels_last

_CONVS = (nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)


class Exact(Eager):
    """Runs the rewritten network."""

    engine = "exact"

    def __init__(self, network: ChangeNetwork, precision: str):
        tiles = precision == "float32" and network.device.type == "cpu"
        super().__init__(rewrite(network, tiles=tiles), precision)

    def forward(self, before: Tensor, after: Tensor) -> ChangeLogits:
        """Logits; inputs as the network's."""
        # Here, as workers get an engine that was built elsewhere.
        if before.device.type == "cpu":
            keep_memory()
        return super().forward(before, after)


def fold_norms(network: Module) -> Module:
    """A copy for inference whose batch norms are folded into the convolutions before them.

    Args:
        network: In evaluation mode.
    """
    copy = deepcopy(network)
    for module in list(copy.modules()):
        # Where the two are no sequence, as in timm's networks, they are called alike.
        children: dict[str, Any] = dict(module.named_children())
        in_turn = pairwise(children) if isinstance(module, nn.Sequential) else []
        timms = type(module).__module__.startswith("timm.")
        named = ((name, name.replace("conv", "bn")) for name in children if timms)
        for conv, norm in (*in_turn, *named):
            if _is_norm_of(children.get(norm), children[conv]):
                setattr(module, conv, fuse_conv_bn_eval(children[conv], children[norm]))
                setattr(module, norm, nn.Identity())
    for pyramid in [module for module in copy.modules() if isinstance(module, Pyramid)]:
        _settle_padding(pyramid)
    return channels_last(copy)


def _settle_padding(pyramid: Pyramid) -> None:
    """Sets how much TensorFlow's "same" convolutions pad, which they else find out each time.

    Inputs are filled up to multiples of the coarsest stride, so it is the same at every size.
    """
    for module in list(pyramid.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Conv2dSame):
                missing = [k - s for k, s in zip(child.kernel_size, child.stride, strict=True)]
                (top, left), (rows, columns) = [one // 2 for one in missing], missing
                form: dict[str, Any] = {
                    name: getattr(child, name)
                    for name in ("in_channels", "out_channels", "kernel_size", "stride", "groups")
                }
                plain = nn.Conv2d(**form, bias=child.bias is not None)
                plain.weight, plain.bias = child.weight, child.bias
                pad = nn.ZeroPad2d((left, columns - left, top, rows - top))
                setattr(module, name, nn.Sequential(pad, plain))


def _is_norm_of(norm: nn.Module | None, conv: nn.Module) -> bool:
    return type(norm) in _NORMS and isinstance(conv, _CONVS)


def rewrite(network: Module, *, joins: bool = True, tiles: bool = False) -> Module:
    """A copy for inference that computes the same with fewer multiplications.

    Args:
        network: In evaluation mode.
        joins: Whether convolutions over joined maps are taken apart too: fewer multiplications,
            but more passes over memory.
        tiles: Whether wide convolutions are done by transformed tiles: for float32 on a CPU. GPUs'
            libraries know of it themselves, and bf16 is too coarse for it.
    """
    copy = fold_norms(network)
    for module in list(copy.modules()):
        is_split = joins and _joins_two(module)
        for name, child in list(module.named_children()):
            if isinstance(child, Stem):
                setattr(module, name, AffineStem(child))
            elif isinstance(child, DifferencePath):
                setattr(module, name, SparseDifferencePath(child))
            elif joins and _joins_two(child):
                setattr(module, name, SplitJoin(child))
            elif tiles and not is_split and is_wide(child):
                setattr(module, name, Winograd(child))
    return channels_last(copy)


def _joins_two(module: nn.Module) -> TypeGuard[JoinConv]:
    return isinstance(module, JoinConv) and module.parts[1] > 0


class AffineStem(nn.Module):
    """A stem over the pseudo-video, computed from the first image and the difference of both.

    Frame n is I1 + n / (N - 1) (I2 - I1), and so is each tap of the kernel in time an affine
    function of n. At the ends of the video one tap meets no frame.
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
    """Of a kernel (C, bands, 3, h, w) all taps in time together, the first and the last alone.

    Returns:
        (3 C, bands, h, w).
    """
    earlier, now, later = kernel.unbind(2)
    return torch.cat([earlier + now + later, earlier, later])


def affine_video(
    still: Tensor, moved: Tensor, frames: int, bias: Tensor | float = 0.0
) -> list[Tensor]:
    """What a convolution over the pseudo-video gives.

    Args:
        still: What :func:`taps_in_time` give over the first image, (B, 3 C, H, W).
        moved: The same over the difference of both.
        frames: How many, N.
        bias: Of the convolution, (C, 1, 1).

    Returns:
        N of (B, C, H, W).
    """
    still, still_first, still_last = still.chunk(3, dim=1)
    moved, moved_first, moved_last = moved.chunk(3, dim=1)
    step = 1 / (frames - 1)
    start = still + bias + step * (moved_last - moved_first)
    video = [start + n * step * moved for n in range(frames)]
    # What the taps would have seen beyond the ends: frame -1, and frame N.
    video[0] = video[0] - (still_first - step * moved_first)
    video[-1] = video[-1] - (still_last + (1 + step) * moved_last)
    return video


class SparseDifferencePath(nn.Module):
    """Difference features where level 3 keeps them, one place of four."""

    def __init__(self, path: DifferencePath):
        super().__init__()
        self.path = path
        kernel = kept_places(path.project.weight)
        self.conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], 2, bias=False)
        self.conv.weight = nn.Parameter(kernel)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Two (B, bands, H, W) to (B, C, H/8, W/8); the path's own output at other sizes."""
        if before.shape[-2] % 8 or before.shape[-1] % 8:
            return self.path(before, after)
        first, second = self.path.of_both(self.path.backbone, before, after)
        return self.conv(F.pad(first - second, (1, 0, 1, 0))).abs()


def kept_places(kernel: Tensor) -> Tensor:
    """Of a kernel (out, in, 3, 3) over a map enlarged twice, what it does over the map itself at
    the even places: the first of three rows meets one value there, and the other two the next.

    Returns:
        (out, in, 2, 2), for a map that is filled up by one row above and one column on the left.
    """
    rows = torch.stack([kernel[:, :, 0], kernel[:, :, 1] + kernel[:, :, 2]], dim=2)
    return torch.stack([rows[..., 0], rows[..., 1] + rows[..., 2]], dim=3)


class SplitJoin(nn.Module):
    """A convolution over joined maps, taken apart: one over each, and their sum."""

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
        """As the layer; taken apart where the other map is half as large."""
        if x.shape[-2] == 2 * other.shape[-2] and x.shape[-1] == 2 * other.shape[-1]:
            return self.own(x) + self.enlarged(other)
        return self.join(x, other)


def _over_enlarged(kernel: Tensor) -> Tensor:
    """The transposed kernel (in, out, 4, 4) that does over a map what (out, in, 3, 3) does over
    the map enlarged twice.
    """
    flipped = kernel.flip(2, 3).flatten(0, 1)[:, None]
    spread = F.conv2d(flipped, torch.ones_like(flipped[:1, :, :2, :2]), padding=1)
    return spread.view(*kernel.shape[:2], 4, 4).transpose(0, 1).contiguous()

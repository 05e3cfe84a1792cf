"""Grows a small CTMA into a large one that starts as the same function.

The method follows T. Chen, I. Goodfellow & J. Shlens, "Net2Net: Accelerating Learning via
Knowledge Transfer", arXiv 1511.05641, 2016. Net2Net copies channels. Here new channels are random,
and their weights into the old channels start at zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from ctma.models.base import ChangeNetwork
from ctma.models.ctma import CTMA


@torch.no_grad()
def grow(small: ChangeNetwork, large: ChangeNetwork, before: Tensor, after: Tensor) -> None:
    """Gives a large CTMA the weights of a small one, so that both compute the same outputs.

    In evaluation mode, the outputs are equal to float32 rounding. In training, they are nearly
    equal if the backbone takes its batch statistics over both dates (``joint_statistics``).

    Args:
        small: A CTMA, in evaluation mode.
        large: A CTMA with the same bands, frames and fusion weight, and a backbone of the same
            kind. It must be at least as wide and as deep. The function changes it in place.
        before: Images like those of the training, (B, bands, H, W) in [0, 1]. They set those
            batch norms that must pass their inputs on unchanged.
        after: The same shape.

    Raises:
        ValueError: If the images do not fit, or the small network does not fit into the large
            one. The large network is then unusable.
    """
    if not isinstance(small, CTMA) or not isinstance(large, CTMA):
        raise ValueError("only a CTMA grows into another")
    _check_fit(small, large)
    large.check_inputs(before, after)
    places = _places(small, large)
    state = large.state_dict()
    for name, weight in small.state_dict().items():
        _put(weight, state[name], places.get(name))
    difference = _deepen(small, large, before, after)
    expected = small.difference_path(before, after)
    if not torch.allclose(difference[:, : expected.shape[1]], expected, rtol=1e-2, atol=1e-3):
        raise ValueError("its backbone is of another kind")


def _check_fit(small: CTMA, large: CTMA) -> None:
    state = large.state_dict()
    for name, weight in small.state_dict().items():
        if name not in state:
            raise ValueError(f"{name} is surplus")
        old, new = weight.shape, state[name].shape
        if old[2:] != new[2:] or any(a > b for a, b in zip(old, new, strict=True)):
            raise ValueError(f"{name} is {tuple(old)}, does not fit into {tuple(new)}")
    for name in ("bands", "video_len", "fusion"):
        small_value, large_value = getattr(small, name), getattr(large, name)
        if small_value != large_value:
            raise ValueError(f"{name} is {small_value}, not {large_value}")


def _places(small: CTMA, large: CTMA) -> dict[str, list[int]]:
    """Positions of the old input channels of convolutions over two joined features."""
    old, new = _joined_channels(small), _joined_channels(large)
    return {
        name: [*range(first), *range(new[name][0], new[name][0] + second)]
        for name, (first, second) in old.items()
    }


def _joined_channels(network: CTMA) -> dict[str, tuple[int, int]]:
    """Names of the weights over two joined features, with the channels of each feature."""
    levels: Any = network.unmasked_branch.levels
    s_blocks: Any = network.unmasked_decoder.s_blocks
    motion = [_channels_out(tam.mix) for tam in network.tams]
    widths = [_channels_out(level.conv1) for level in levels]
    skips = (*reversed(widths), 2 * network.bands)
    joined = {f"tams.{i}.mix.0.weight": (width, width) for i, width in enumerate(motion)}
    for kind in ("unmasked", "masked"):
        for i, both in enumerate(zip(widths, motion, strict=False), start=1):
            joined[f"{kind}_branch.levels.{i}.conv1.0.weight"] = both
        for i, (skip, s_block) in enumerate(zip(skips, s_blocks, strict=True)):
            below = s_block.conv1[0].in_channels - skip
            joined[f"{kind}_decoder.s_blocks.{i}.conv1.0.weight"] = (skip, below)
    return joined


def _channels_out(conv_bn: Any) -> int:
    return conv_bn[0].out_channels


def _put(weight: Tensor, larger: Tensor, places: list[int] | None) -> None:
    """Copies a weight into a larger one, and zeroes the weights from new inputs to old outputs."""
    rows = larger[: len(weight)] if weight.ndim else larger
    if weight.ndim < 2:
        rows.copy_(weight)
    else:
        rows.zero_()
        rows[:, places or slice(weight.shape[1])] = weight


def _deepen(small: CTMA, large: CTMA, before: Tensor, after: Tensor) -> Tensor:
    """Makes the large backbone's additional residual blocks pass their inputs on unchanged.

    Returns:
        The difference features of the large network after the change.
    """
    hooks = []
    for block in _further_blocks(small, large):
        last: Any = block.bn3 if isinstance(block, Bottleneck) else block.bn2
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        if block.downsample is not None:
            *_, conv, norm = block.downsample
            conv.weight[: conv.in_channels] = torch.eye(conv.in_channels)[..., None, None]
            pass_on = partial(_pass_on, channels=conv.in_channels)
            hooks.append(norm.register_forward_pre_hook(pass_on))
    training = large.training
    difference = large.eval().difference_path(before, after)
    large.train(training)
    for hook in hooks:
        hook.remove()
    return difference


def _further_blocks(small: CTMA, large: CTMA) -> Iterator[Any]:
    small_names = {name for name, _ in small.difference_path.named_modules()}
    for name, module in large.difference_path.named_modules():
        if name not in small_names and isinstance(module, BasicBlock | Bottleneck):
            yield module


def _pass_on(norm: nn.BatchNorm2d, inputs: tuple[Tensor], channels: int) -> None:
    """Hook before a batch norm that makes the norm the identity on its first channels."""
    variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3), correction=0)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight[:channels] = (variance + norm.eps).sqrt()[:channels]
    norm.bias[:channels] = mean[:channels]

"""How a training computes where the obvious way is slow."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


def speed_up_depthwise(network: nn.Module) -> None:
    """Lets depthwise convolutions compute in float32 within autocast on CPUs.

    In bf16 their gradients take four to eight times as long there, but for kernels of 3 that
    leave the size as it is (``benchmarks/training.py``).

    Args:
        network: Changed in place; its weights are as before.
    """
    for module in network.modules():
        if (
            isinstance(module, nn.Conv2d)
            and module.groups == module.in_channels > 1
            and (max(module.kernel_size) > 3 or max(module.stride) > 1)
        ):
            layer: Any = module
            layer.forward = partial(_in_float32, module.forward)


def _in_float32(forward: Any, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return forward(x.float())

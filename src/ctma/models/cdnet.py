"""CDNet: deconvolutions over street-view images, the first deep network of the field.

P. F. Alcantarilla, S. Stent, G. Ros, R. Arroyo, R. Gherardi, "Street-View Change Detection with
Deconvolutional Networks", Autonomous Robots 42, 2018. Four levels of large convolutions with max
pooling lead down. Four levels lead up by unpooling to the positions of the maxima.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctma.models.base import ChangeLogits, ChangeNetwork, Released
from ctma.models.layers import conv_bn

LEVELS, WIDTH, KERNEL = 4, 64, 7


class CDNet(ChangeNetwork):
    """CDNet of Alcantarilla et al.

    Args:
        bands: Input channels of one date.
    """

    stride = 16
    released = Released((
        *((rf"^down\.{i}\.{j}\.", f"conv{i + 1}.seq.{j + 1}.") for i in range(4) for j in (0, 1)),
        *((rf"^up\.{i}\.{j}\.", f"conv{i + 5}.seq.{j + 1}.") for i in range(4) for j in (0, 1)),
        (r"^out\.", "conv_out.seq.1."),
    ))  # fmt: skip

    def __init__(self, bands: int = 3):
        super().__init__()
        if bands < 1:
            raise ValueError(f"bands is {bands}, must be at least 1")
        self.bands = bands
        self.down = nn.ModuleList(
            conv_bn(WIDTH if level else 2 * bands, WIDTH, KERNEL) for level in range(LEVELS)
        )
        self.up = nn.ModuleList(conv_bn(WIDTH, WIDTH, KERNEL) for _ in range(LEVELS))
        self.out = nn.Conv2d(WIDTH, 2, KERNEL, padding=KERNEL // 2)

    def forward(self, before: Tensor, after: Tensor) -> ChangeLogits:
        """Change logits of image pairs: change logits minus no-change logits.

        Args:
            before: (B, bands, H, W) in [0, 1], H and W at least 64.
            after: The same shape.
        """
        self.check_inputs(before, after)
        x = torch.cat([before, after], dim=1)
        places = []
        for level in self.down:
            x = F.relu(level(x))
            size = x.shape[-2:]
            x, indices = F.max_pool2d(x, 2, return_indices=True)
            places.append((indices, size))
        for level, (indices, size) in zip(self.up, reversed(places), strict=True):
            x = F.relu(level(F.max_unpool2d(x, indices, [2, 2], output_size=size)))
        return ChangeLogits.from_classes(self.out(x))

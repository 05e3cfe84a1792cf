"""SNUNet-CD: a densely connected siamese U-Net with attention over its depths.

S. Fang, K. Li, J. Shao, Z. Li, "SNUNet-CD: A Densely Connected Siamese Network for Change
Detection of VHR Images", IEEE Geoscience and Remote Sensing Letters 19, 2021.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctma.models.base import ChangeLogits, ChangeNetwork, Released
from ctma.models.layers import ChannelAttention, conv_bn

DEPTH = 4


class SNUNet(ChangeNetwork):
    """SNUNet-CD of Fang et al.

    Args:
        bands: Input channels of one date.
        width: Channels of the finest level; each coarser level has twice as many.
    """

    stride = 2**DEPTH
    released = Released((
        (r"^nodes\.(\w+)\.conv1\.", r"conv\1.conv1."),
        (r"^nodes\.(\w+)\.norm1\.", r"conv\1.bn1."),
        (r"^nodes\.(\w+)\.conv2\.0\.", r"conv\1.conv2."),
        (r"^nodes\.(\w+)\.conv2\.1\.", r"conv\1.bn2."),
        (r"^within\.fc\.0\.", "ca_intra.fc1.seq.0."),
        (r"^within\.fc\.2\.", "ca_intra.fc2.seq.0."),
        (r"^between\.fc\.0\.", "ca_inter.fc1.seq.0."),
        (r"^between\.fc\.2\.", "ca_inter.fc2.seq.0."),
        (r"^out\.", "conv_out.seq.0."),
    ))  # fmt: skip

    def __init__(self, bands: int = 3, width: int = 32):
        super().__init__()
        if bands < 1 or width < 4 or width % 4:
            raise ValueError(f"bands is {bands}, width {width}: at least 1, and a multiple of 4")
        self.bands = bands
        widths = [width * 2**level for level in range(DEPTH + 1)]
        ins = (bands, *widths)
        nodes = {f"{level}_0": Node(ins[level], widths[level]) for level in range(DEPTH + 1)}
        for column in range(1, DEPTH + 1):
            for level in range(DEPTH + 1 - column):
                joined = widths[level] * (column + 1) + widths[level + 1]
                nodes[f"{level}_{column}"] = Node(joined, widths[level])
        self.nodes = nn.ModuleDict(nodes)
        self.within = ChannelAttention(width, reduction=4)
        self.between = ChannelAttention(width * DEPTH, reduction=16)
        self.out = nn.Conv2d(width * DEPTH, 2, 1)

    def forward(self, before: Tensor, after: Tensor) -> ChangeLogits:
        """Change logits of image pairs: change logits minus no-change logits.

        Args:
            before: (B, bands, H, W) in [0, 1], H and W at least 64.
            after: The same shape.
        """
        self.check_inputs(before, after)
        firsts, seconds = self._encode(before, DEPTH), self._encode(after, DEPTH + 1)
        rows = [[first, second] for first, second in zip(firsts, seconds[:DEPTH], strict=True)]
        below = seconds
        for column in range(1, DEPTH + 1):
            column_features = []
            for level in range(DEPTH + 1 - column):
                enlarged = _enlarge(below[level + 1], rows[level][0])
                column_features.append(
                    self.nodes[f"{level}_{column}"](torch.cat([*rows[level], enlarged], 1))
                )
                rows[level].append(column_features[-1])
            below = column_features
        depths = rows[0][2:]
        together = torch.cat(depths, dim=1)
        within = self.within(torch.stack(depths).sum(dim=0))
        return ChangeLogits.from_classes(
            self.out(self.between(together) * (together + within.repeat(1, DEPTH, 1, 1)))
        )

    def _encode(self, x: Tensor, levels: int) -> list[Tensor]:
        """Features from fine to coarse."""
        features: list[Tensor] = []
        for level in range(levels):
            x = self.nodes[f"{level}_0"](F.max_pool2d(x, 2) if features else x)
            features.append(x)
        return features


class Node(nn.Module):
    """Two convolutions, with a residual connection around the second one."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv_bn(out_channels, out_channels, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return F.relu(x + self.conv2(F.relu(self.norm1(x))))


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)

"""STANet: pixels of both dates attend to each other, in regions of several sizes.

H. Chen, Z. Shi, "A Spatial-Temporal Attention-Based Method and a New Dataset for Remote Sensing
Image Change Detection", Remote Sensing 12, 2020. This is the variant with the pyramid attention
module (PAM). A pixel is change if the distance between the two dates' features exceeds a margin.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctma.models.backbones import ResNetLevels
from ctma.models.base import ChangeLogits, ChangeNetwork, Released
from ctma.models.layers import conv_bn

NARROW, WIDE = 96, 256
REGIONS = (1, 2, 4, 8)
"""Number of parts in each direction into which each stage of PAM divides the image."""

EPSILON = 1e-6
"""Added to the differences before the norm, as in torch's pairwise distance."""

EXTRACTOR_NAMES = (
    (r"\.reduce\.0\.", ".dr1.seq."),
    (r"\.reduce\.1\.", ".dr2.seq."),
    (r"\.reduce\.2\.", ".dr3.seq."),
    (r"\.reduce\.3\.", ".dr4.seq."),
    (r"\.join\.0\.", ".conv_out.0.seq.1."),
    (r"\.join\.1\.", ".conv_out.0.seq.2."),
    (r"\.narrow\.", ".conv_out.2.seq."),
)
"""Released weight names of ``Gather``, which DSAMNet uses too."""


class STANet(ChangeNetwork):
    """STANet of Chen and Shi, with the pyramid attention module.

    Args:
        bands: Input channels of one date.
        width: Channels of the features that STANet compares.
        backbone: A timm ResNet of basic blocks.
        pretrained: ImageNet weights for the backbone: ``True``, or a file.
        margin: Feature distance above which a pixel is change; logits are distance minus margin.
        dropout: Share of values to drop in training.
    """

    stride = 32
    backbone_part = "backbone."
    released = Released((
        (r"^backbone\.", "extract.0."),
        (r"^gather\.", "extract.1."),
        *EXTRACTOR_NAMES,
        (r"^attention\.stages\.(\d)\.(query|key)\.", r"attend.att.stages.\1.conv_\2.seq."),
        (r"^attention\.stages\.(\d)\.value\.", r"attend.att.stages.\1.conv_v.seq.0."),
        (r"conv_query\.", "conv_q."),
        (r"conv_key\.", "conv_k."),
        (r"^attention\.out\.", "attend.att.conv_out.seq.0."),
    ))  # fmt: skip

    def __init__(
        self,
        bands: int = 3,
        width: int = 64,
        backbone: str = "resnet18.tv_in1k",
        pretrained: bool | str | Path = False,
        margin: float = 1.0,
        dropout: float = 0.5,
    ):
        super().__init__()
        if bands < 1 or width < 8 or margin <= 0:
            raise ValueError(f"bands is {bands}, width {width}, margin {margin}: too small")
        self.bands = bands
        self.margin = margin
        self.backbone = ResNetLevels(backbone, bands, (2, 2, 2, 2), pretrained)
        self.gather = Gather(self.backbone.channels, width, dropout)
        self.attention = PyramidAttention(width)

    def forward(self, before: Tensor, after: Tensor) -> ChangeLogits:
        """Change logits of image pairs: feature distance minus margin.

        Args:
            before: (B, bands, H, W) in [0, 1], H and W at least 64.
            after: The same shape.
        """
        self.check_inputs(before, after)
        first, second = (self.gather(self.backbone(image)) for image in (before, after))
        first, second = self.attention(first, second)
        apart = distance(first, second)
        fine = F.interpolate(apart, before.shape[-2:], mode="bilinear", align_corners=True)
        return ChangeLogits(fine - self.margin)


class Gather(nn.Module):
    """Merges the features of all stages into one feature, at the size of the finest stage."""

    def __init__(self, channels: Sequence[int], width: int, dropout: float):
        super().__init__()
        self.reduce = nn.ModuleList(conv_bn(count, NARROW, kernel=1) for count in channels)
        self.join = conv_bn(NARROW * len(channels), WIDE)
        self.narrow = conv_bn(WIDE, width, kernel=1)
        self.dropout = dropout

    def forward(self, stages: list[Tensor]) -> Tensor:
        reduced = [F.relu(part(x)) for part, x in zip(self.reduce, stages, strict=True)]
        size = reduced[0].shape[-2:]
        sized = [F.interpolate(x, size, mode="bilinear", align_corners=True) for x in reduced[1:]]
        joined = F.relu(self.join(torch.cat([reduced[0], *sized], dim=1)))
        return F.relu(self.narrow(F.dropout(joined, self.dropout, self.training)))


class PyramidAttention(nn.Module):
    """PAM: joins attention within regions of four sizes."""

    def __init__(self, width: int):
        super().__init__()
        self.stages = nn.ModuleList(RegionAttention(width, count) for count in REGIONS)
        self.out = nn.Conv2d(width * len(REGIONS), width, 1, bias=False)

    def forward(self, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.stack([before, after], dim=-1)
        features = torch.cat([stage(both) for stage in self.stages], dim=1)
        first, second = features.unbind(-1)
        return self.out(first), self.out(second)


class RegionAttention(nn.Module):
    """Attention within regions: each pixel attends to all pixels of its region at both dates."""

    def __init__(self, width: int, regions: int):
        super().__init__()
        self.regions = regions
        self.query = conv_bn(width, width // 8, kernel=1)
        self.key = conv_bn(width, width // 8, kernel=1)
        self.value = nn.Conv2d(width, width, 1)

    def forward(self, both: Tensor) -> Tensor:
        """(B, C, h, w, 2) to the same shape."""
        flat = both.permute(4, 0, 1, 2, 3).flatten(0, 1)
        parts = [
            layer(flat).unflatten(0, (2, -1)).permute(1, 2, 3, 4, 0)
            for layer in (self.query, self.key, self.value)
        ]
        rows = []
        for strip in zip(*(part.tensor_split(self.regions, 2) for part in parts), strict=True):
            regions = zip(*(part.tensor_split(self.regions, 3) for part in strip), strict=True)
            rows.append(torch.cat([_attend(*region) for region in regions], dim=3))
        return torch.cat(rows, dim=2)


def distance(first: Tensor, second: Tensor) -> Tensor:
    """The Euclidean distance over channels, (B, 1, h, w)."""
    # F.pairwise_distance needs channels last, and then traced graphs lose the order of axes.
    return torch.linalg.vector_norm(first - second + EPSILON, dim=1, keepdim=True)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention over one region; query, key and value are (B, C, h, w, 2) each."""
    query, key, tokens = (part.flatten(2).transpose(1, 2) for part in (query, key, value))
    return (
        F.scaled_dot_product_attention(query, key, tokens)
        .transpose(1, 2)
        .unflatten(2, value.shape[2:])
    )

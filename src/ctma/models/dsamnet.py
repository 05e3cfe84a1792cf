"""DSAMNet: distances of attention-weighted features, with deep supervision of two early stages.

Q. Shi, M. Liu, S. Li, X. Liu, F. Wang, L. Zhang, "A Deeply Supervised Attention Metric-Based
Network and an Open Aerial Image Dataset for Remote Sensing Change Detection", IEEE Transactions
on Geoscience and Remote Sensing 60, 2022.
"""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from ctma.models.backbones import ResNetLevels
from ctma.models.base import ChangeLogits, ChangeNetwork, Released
from ctma.models.layers import ChannelAttention, SpatialAttention
from ctma.models.stanet import EXTRACTOR_NAMES, Gather, distance


class DSAMNet(ChangeNetwork):
    """DSAMNet of Shi et al.

    Args:
        bands: Input channels of one date.
        width: Channels of the features that DSAMNet compares.
        backbone: A timm ResNet of basic blocks.
        pretrained: ImageNet weights for the backbone: ``True``, or a file.
        margin: Feature distance above which a pixel is change; logits are distance minus margin.
        dropout: Two shares of values to drop in training: in the features, and before the
            auxiliary outputs.
    """

    stride = 16
    backbone_part = "backbone."
    released = Released((
        (r"^gather\.", "decoder."),
        *EXTRACTOR_NAMES,
        (r"^attention\.0\.", "cbam1."),
        (r"^attention\.1\.", "cbam2."),
        (r"\.channels\.fc\.0\.", ".ca.fc1.seq.0."),
        (r"\.channels\.fc\.2\.", ".ca.fc2.seq.0."),
        (r"\.places\.conv\.", ".sa.conv.seq.1."),
        (r"^early\.0\.", "dsl2."),
        (r"^early\.1\.", "dsl3."),
    ))  # fmt: skip

    def __init__(
        self,
        bands: int = 3,
        width: int = 64,
        backbone: str = "resnet18.tv_in1k",
        pretrained: bool | str | Path = False,
        margin: float = 1.0,
        dropout: tuple[float, float] = (0.5, 0.2),
    ):
        super().__init__()
        if bands < 1 or width < 8 or margin <= 0:
            raise ValueError(f"bands is {bands}, width {width}, margin {margin}: too small")
        self.bands = bands
        self.margin = margin
        self.backbone = ResNetLevels(backbone, bands, (1, 2, 2, 1), pretrained)
        self.gather = Gather(self.backbone.channels, width, dropout[0])
        self.attention = nn.ModuleList(BlockAttention(width) for _ in range(2))
        self.early = nn.ModuleList(
            _supervised(channels, stride, dropout[1])
            for channels, stride in zip(self.backbone.channels[:2], (2, 4), strict=True)
        )

    def forward(self, before: Tensor, after: Tensor) -> ChangeLogits:
        """Feature distance minus margin, with the logits of two early stages as auxiliary output.

        Args:
            before: (B, bands, H, W) in [0, 1], H and W at least 64.
            after: The same shape.
        """
        self.check_inputs(before, after)
        size = before.shape[-2:]
        stages = [self.backbone(image) for image in (before, after)]
        first, second = (
            attention(self.gather(maps))
            for attention, maps in zip(self.attention, stages, strict=True)
        )
        apart = distance(first, second)
        fine = F.interpolate(apart, size, mode="bilinear", align_corners=True) - self.margin
        further = [
            head((maps - other).abs())[..., : size[0], : size[1]]
            for head, maps, other in zip(self.early, *(maps[:2] for maps in stages), strict=True)
        ]
        return ChangeLogits(fine, tuple(further))


class BlockAttention(nn.Module):
    """Channel attention, then spatial attention (CBAM)."""

    def __init__(self, width: int):
        super().__init__()
        self.channels = ChannelAttention(width, reduction=8)
        self.places = SpatialAttention()

    def forward(self, x: Tensor) -> Tensor:
        x = self.channels(x) * x
        return self.places(x) * x


def _supervised(channels: int, stride: int, dropout: float) -> nn.Sequential:
    """Head that turns features of an early stage into logits at the size of the image."""
    return nn.Sequential(
        nn.ConvTranspose2d(channels, 32, 3, stride, padding=1, output_padding=stride - 1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Dropout2d(dropout),
        nn.ConvTranspose2d(32, 1, 3, padding=1),
    )

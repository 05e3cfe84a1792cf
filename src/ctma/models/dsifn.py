"""DSIFN: fuses features of a frozen VGG-16 from coarse to fine, with supervision at each level.

C. Zhang, P. Yue, D. Tapete, L. Jiang, B. Shangguan, L. Huang, G. Liu, "A Deeply Supervised Image
Fusion Network for Change Detection in High Resolution Bi-Temporal Remote Sensing Images", ISPRS
Journal of Photogrammetry and Remote Sensing 166, 2020.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ctma.models.base import ChangeLogits, ChangeNetwork, Released
from ctma.models.layers import ChannelAttention, SpatialAttention, fill_as
from ctma.models.pretrained import create_backbone, register_scale
from ctma.types import IMAGE_BANDS

TAKEN = (3, 8, 15, 22, 29)
"""Layers of VGG-16 whose outputs DSIFN uses: the last ReLU of each size."""

CHANNELS = (64, 128, 256, 512, 512)
"""Channels of these outputs, from fine to coarse."""

WIDTHS = ((512, 512), (512, 256, 256), (256, 128, 128), (128, 64, 64), (64, 32, 16))
"""Output channels of the convolutions of each fusion level, from coarse to fine."""


class DSIFN(ChangeNetwork):
    """DSIFN of Zhang et al.

    Args:
        bands: Input channels of one date; the first layer of VGG-16 learns where they are not 3.
        pretrained: ImageNet weights for the frozen VGG-16: ``True``, or a file.
        normalised: Whether to normalise inputs by ImageNet's mean and deviation, as in the
            training of VGG-16.
        dropout: Share of values to drop in training.
    """

    stride = 16
    backbone_part = "encoder."
    released = Released((
        (r"^encoder\.", "encoder2.features."),
        *((rf"^levels\.{i}\.channels\.fc\.0\.", f"ca{i + 1}.fc1.seq.0.") for i in range(5)),
        *((rf"^levels\.{i}\.channels\.fc\.2\.", f"ca{i + 1}.fc2.seq.0.") for i in range(5)),
        *((rf"^levels\.{i}\.spare\.", f"bn_ca{i + 1}.") for i in range(2)),
        *((rf"^levels\.{i}\.convs\.{j}\.", f"o{i + 1}_conv{j + 1}.")
          for i in range(5) for j in range(3)),
        *((rf"^levels\.{i}\.places\.conv\.", f"sa{i + 1}.conv.seq.1.") for i in range(5)),
        *((rf"^levels\.{i}\.norm\.", f"bn_sa{i + 1}.") for i in range(5)),
        *((rf"^levels\.{i}\.out\.", f"o{i + 1}_conv{len(WIDTHS[i]) + 1}.seq.0.") for i in range(5)),
        *((rf"^levels\.{i}\.up\.", f"trans_conv{i}.") for i in range(1, 5)),
    ), twice=("encoder2.", "encoder1."))  # fmt: skip

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        bands: int = 3,
        pretrained: bool | str | Path = False,
        normalised: bool = True,
        dropout: float = 0.6,
    ):
        super().__init__()
        if bands < 1 or not 0 <= dropout < 1:
            raise ValueError(f"bands is {bands}, dropout {dropout}: at least 1, and from 0 below 1")
        self.bands = bands
        self.normalised = normalised
        vgg = create_backbone("vgg16.tv_in1k", pretrained, in_chans=bands)
        self.encoder = vgg.features[: TAKEN[-1] + 1].requires_grad_(False)
        # ImageNet knows red, green and blue: kernels of other bands have to learn.
        self.encoder[0].requires_grad_(bands != len(IMAGE_BANDS))
        register_scale(self, vgg.pretrained_cfg, bands)
        self.levels = nn.ModuleList(Level(number, dropout) for number in range(len(WIDTHS)))

    def forward(self, before: Tensor, after: Tensor) -> ChangeLogits:
        """Change logits of image pairs; the coarser levels' logits are auxiliary output.

        Args:
            before: (B, bands, H, W) in [0, 1], H and W at least 64.
            after: The same shape.
        """
        self.check_inputs(before, after)
        dates = [self._features(image) for image in (before, after)]
        x: Tensor | None = None
        level_logits = []
        for level, *features in zip(self.levels, *(reversed(maps) for maps in dates), strict=True):
            x, logits = level(x, *features)
            level_logits.append(logits)
        fine, *coarser = reversed(level_logits)
        return ChangeLogits(fine, tuple(coarser))

    def _features(self, x: Tensor) -> list[Tensor]:
        """Features of one date from fine to coarse, at H, H/2, H/4, H/8 and H/16."""
        if self.normalised:
            x = (x - self.mean) / self.std
        features = []
        for number, layer in enumerate(self.encoder):
            x = layer(x)
            if number in TAKEN:
                features.append(x)
        return features


class Level(nn.Module):
    """Joins the coarser level's output with the features of both dates, and predicts logits.

    The channel attention of the coarsest level and two batch norms do not affect the outputs. They
    exist because released files hold their weights.
    """

    def __init__(self, number: int, dropout: float):
        super().__init__()
        widths = WIDTHS[number]
        below = WIDTHS[number - 1][-1] if number else 0
        joined = below + 2 * CHANNELS[-1 - number]
        self.up = nn.ConvTranspose2d(below, below, 2, stride=2) if number else None
        self.channels = ChannelAttention(joined, reduction=8)
        self.spare = nn.BatchNorm2d(joined).requires_grad_(False) if number < 2 else None
        # Several devices would wait for the gradients of unused weights.
        self.channels.requires_grad_(number > 0)
        self.convs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(first, second, 3, padding=1),
                nn.PReLU(),
                nn.BatchNorm2d(second),
                nn.Dropout(dropout),
            )
            for first, second in zip((joined, *widths[:-1]), widths, strict=True)
        )
        self.places = SpatialAttention()
        self.norm = nn.BatchNorm2d(widths[-1])
        self.out = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, x: Tensor | None, *dates: Tensor) -> tuple[Tensor, Tensor]:
        """The features for the next level, and the logits of this level."""
        joined = torch.cat(dates, dim=1)
        if x is not None and self.up is not None:
            joined = torch.cat([fill_as(self.up(x), joined), joined], dim=1)
            joined = self.channels(joined) * joined
        for conv in self.convs:
            joined = conv(joined)
        joined = self.norm(self.places(joined) * joined)
        return joined, self.out(joined)

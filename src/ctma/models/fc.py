"""FC-EF, FC-Siam-conc and FC-Siam-diff: the fully convolutional networks of change detection.

R. Caye Daudt, B. Le Saux, A. Boulch, "Fully Convolutional Siamese Networks for Change Detection",
ICIP 2018. The three networks are variants of one U-Net. FC-EF stacks both dates. The other two
share an encoder between the dates. FC-Siam-conc concatenates the skip features of the dates,
FC-Siam-diff takes their absolute difference.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctma.models.base import ChangeLogits, ChangeNetwork, Released
from ctma.models.layers import ConvStack, fill_as

WIDTHS, CONVS = (16, 32, 64, 128), (2, 2, 3, 3)
"""Channels and convolutions of the levels, from fine to coarse."""


def _released_names() -> tuple[tuple[str, str], ...]:
    names = []
    for level, convs in enumerate(CONVS):
        for conv in range(convs):
            at, down = f"{level + 1}{conv + 1}", rf"^encoder\.levels\.{level}\.{conv}"
            up = rf"^decoder\.levels\.{len(CONVS) - 1 - level}\.convs\.{convs - 1 - conv}"
            names += [(rf"{part}\.{inner}\.", f"conv{at}{end}.seq.{inner + 1}.")
                      for part, end in ((down, ""), (up, "d")) for inner in (0, 1)]  # fmt: skip
        up = rf"^decoder\.levels\.{len(CONVS) - 1 - level}\.up\."
        names.append((up, f"upconv{level + 1}.seq.0."))
    return (*names, (r"^out\.", "conv11d.seq.1."))


class FC(ChangeNetwork):
    """FC-EF, FC-Siam-conc or FC-Siam-diff.

    Args:
        join: How to combine the dates: ``"early"`` stacks the images, ``"conc"`` concatenates skip
            features, ``"diff"`` takes the absolute difference of skip features.
        bands: Input channels of one date.
        dropout: Share of channels to drop after each convolution in training.
    """

    stride = 16
    released = Released(_released_names())

    def __init__(
        self, join: Literal["early", "conc", "diff"], bands: int = 3, dropout: float = 0.2
    ):
        super().__init__()
        if bands < 1 or not 0 <= dropout < 1:
            raise ValueError(f"bands is {bands}, dropout {dropout}: at least 1, and from 0 below 1")
        self.bands = bands
        self.join = join
        self.encoder = Encoder(bands * 2 if join == "early" else bands, dropout)
        self.decoder = Decoder(2 if join == "conc" else 1, dropout)
        self.out = nn.Conv2d(WIDTHS[0], 2, 3, padding=1)

    def forward(self, before: Tensor, after: Tensor) -> ChangeLogits:
        """Change logits of image pairs: change logits minus no-change logits.

        Args:
            before: (B, bands, H, W) in [0, 1], H and W at least 64.
            after: The same shape.
        """
        self.check_inputs(before, after)
        if self.join == "early":
            skips = self.encoder(torch.cat([before, after], dim=1))
            bottom = skips[-1]
        else:
            pairs = list(zip(self.encoder(before), self.encoder(after), strict=True))
            bottom = pairs[-1][1]
            if self.join == "conc":
                skips = [torch.cat(pair, dim=1) for pair in pairs]
            else:
                skips = [(first - second).abs() for first, second in pairs]
        return ChangeLogits.from_classes(self.out(self.decoder(F.max_pool2d(bottom, 2), skips)))


def fc_ef(bands: int = 3, dropout: float = 0.2) -> FC:
    """FC-EF, early fusion; takes the arguments of ``FC``."""
    return FC("early", bands, dropout)


def fc_siam_conc(bands: int = 3, dropout: float = 0.2) -> FC:
    """FC-Siam-conc; takes the arguments of ``FC``."""
    return FC("conc", bands, dropout)


def fc_siam_diff(bands: int = 3, dropout: float = 0.2) -> FC:
    """FC-Siam-diff; takes the arguments of ``FC``."""
    return FC("diff", bands, dropout)


class Encoder(nn.Module):
    """Levels of convolutions with max pooling between them."""

    def __init__(self, channels: int, dropout: float):
        super().__init__()
        ins = (channels, *WIDTHS[:-1])
        self.levels = nn.ModuleList(
            ConvStack([first, *[width] * convs], dropout)
            for first, width, convs in zip(ins, WIDTHS, CONVS, strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Skip features from fine to coarse, at H, H/2, H/4 and H/8."""
        skips: list[Tensor] = []
        for level in self.levels:
            x = level(F.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        return skips


class Decoder(nn.Module):
    """Levels that enlarge, join a skip feature and convolve."""

    def __init__(self, skips: int, dropout: float):
        super().__init__()
        outs = (WIDTHS[0], *WIDTHS[:-1])
        self.levels = nn.ModuleList(
            DecoderLevel(width, skips, convs, out, dropout)
            for width, convs, out in reversed(list(zip(WIDTHS, CONVS, outs, strict=True)))
        )

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        for level, skip in zip(self.levels, reversed(skips), strict=True):
            x = level(x, skip)
        return x


class DecoderLevel(nn.Module):
    """One decoder level; the finest has one convolution less, before the classifier."""

    def __init__(self, width: int, skips: int, convs: int, out: int, dropout: float):
        super().__init__()
        self.up = nn.ConvTranspose2d(width, width, 3, stride=2, padding=1, output_padding=1)
        last = [] if out == width else [out]
        self.convs = ConvStack([width * (1 + skips), *[width] * (convs - 1), *last], dropout)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.convs(torch.cat([fill_as(self.up(x), skip), skip], dim=1))

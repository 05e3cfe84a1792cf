"""L-UNet: a U-Net whose skip features come from convolutional LSTMs over time.

M. Papadomanolaki, M. Vakalopoulou, K. Karantzalos, "A Deep Multitask Learning Framework Coupling
Semantic Segmentation and Fully Convolutional LSTM Networks for Urban Change Detection", IEEE
Transactions on Geoscience and Remote Sensing 59, 2021. The two dates form a video of two frames.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctma.models.base import ChangeLogits, ChangeNetwork, Released
from ctma.models.layers import ConvStack, conv_bn, fill_as

WIDTHS = (16, 32, 64, 128, 256)


class LUNet(ChangeNetwork):
    """L-UNet of Papadomanolaki et al.

    Args:
        bands: Input channels of one date.
    """

    stride = 2 ** (len(WIDTHS) - 1)
    released = Released((
        (r"^levels\.0\.convs\.(\d)\.0\.", r"block1.seq.\1.seq.1."),
        (r"^levels\.0\.convs\.(\d)\.1\.", r"block1.seq.\1.seq.2."),
        *((rf"^levels\.{i}\.convs\.(\d)\.{j}\.", rf"block{i + 1}.seq.1.\1.seq.{j + 1}.")
          for i in range(1, 5) for j in (0, 1)),
        *((rf"^levels\.{i}\.lstm\.(\w+)\.", rf"block{i + 1}.rnn_cell.\1.seq.1.") for i in range(5)),
        *((rf"^ups\.{i}\.{j}\.", f"up{5 - i}.1.seq.{j + 1}.") for i in range(4) for j in (0, 1)),
        *((rf"^joins\.{i}\.(\d)\.{j}\.", rf"conv{5 - i}d.\1.seq.{j + 1}.")
          for i in range(4) for j in (0, 1)),
        (r"^out\.", "conv_out.seq.0."),
    ))  # fmt: skip

    def __init__(self, bands: int = 3):
        super().__init__()
        if bands < 1:
            raise ValueError(f"bands is {bands}, must be at least 1")
        self.bands = bands
        ins = (bands, *WIDTHS[:-1])
        self.levels = nn.ModuleList(Level(*ends) for ends in zip(ins, WIDTHS, strict=True))
        finer = list(reversed(WIDTHS[:-1]))
        self.ups = nn.ModuleList(conv_bn(2 * width, width) for width in finer)
        self.joins = nn.ModuleList(ConvStack((2 * width, width, width)) for width in finer)
        self.out = nn.Conv2d(WIDTHS[0], 2, 1)

    def forward(self, before: Tensor, after: Tensor) -> ChangeLogits:
        """Change logits of image pairs: change logits minus no-change logits.

        Args:
            before: (B, bands, H, W) in [0, 1], H and W at least 64.
            after: The same shape.
        """
        self.check_inputs(before, after)
        frames = [before, after]
        skips: list[Tensor] = []
        for level in self.levels:
            if skips:
                frames = [F.max_pool2d(frame, 2) for frame in frames]
            frames, skip = level(frames)
            skips.append(skip)
        x = skips.pop()
        for up, join in zip(self.ups, self.joins, strict=True):
            skip = skips.pop()
            x = fill_as(F.relu(up(F.interpolate(x, scale_factor=2.0, mode="nearest"))), skip)
            x = join(torch.cat([x, skip], dim=1))
        return ChangeLogits.from_classes(self.out(x))


class Level(nn.Module):
    """Two convolutions on each frame, and an LSTM over the frames for the skip feature."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.convs = ConvStack((in_channels, out_channels, out_channels))
        self.lstm = ConvLSTM(out_channels)

    def forward(self, frames: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """The features of each frame, and the LSTM's features of all frames together."""
        features = [self.convs(frame) for frame in frames]
        return features, self.lstm(features)


class ConvLSTM(nn.Module):
    """An LSTM whose gates are convolutions (Shi et al., NeurIPS 2015); its first state is zero."""

    def __init__(self, channels: int):
        super().__init__()
        self.in_gate = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.forget_gate = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.out_gate = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.cell_gate = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, frames: list[Tensor]) -> Tensor:
        """The hidden state after the last frame."""
        hidden = cell = torch.zeros_like(frames[0])
        for frame in frames:
            both = torch.cat([frame, hidden], dim=1)
            memory = cell * self.forget_gate(both).sigmoid()
            cell = memory + self.in_gate(both).sigmoid() * self.cell_gate(both).tanh()
            hidden = self.out_gate(both).sigmoid() * cell.tanh()
        return hidden

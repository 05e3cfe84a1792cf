"""Averaging over flipped views, at test time."""

from __future__ import annotations

import torch
from torch import Tensor

from ctma.models.blocks import ChangeLogits, ChangeNetwork

_VIEWS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-1, -2))


class FlipAverage(ChangeNetwork):
    """A network that sees each pair as it is, mirrored, upside down, and both.

    Takes four times as long as the network it wraps.

    Args:
        network: The network whose logits are averaged.
    """

    def __init__(self, network: ChangeNetwork):
        super().__init__()
        self.network = network
        self.bands = network.bands
        self.header = network.header
        self.temperature = network.temperature
        self.train(network.training)

    def forward(self, before: Tensor, after: Tensor) -> ChangeLogits:
        """Mean logits of the four views; inputs as the network's."""
        logits = [
            self.network(before.flip(view), after.flip(view)).fine.flip(view) for view in _VIEWS
        ]
        return ChangeLogits(torch.stack(logits).mean(dim=0))

"""Networks that results can be worked out by hand for."""

import torch

from ctma import ChangeLogits, ChangeNetwork


class MeanDifference(ChangeNetwork):
    """The pixel's own difference, with one weight."""

    def __init__(self, bands: int = 3, gain: float = 20.0):
        super().__init__()
        self.bands = bands
        self.scale = torch.nn.Parameter(torch.tensor(gain))

    def forward(self, before, after):
        difference = (after - before).abs().mean(dim=1, keepdim=True)
        return ChangeLogits(self.scale * (difference - 0.3))

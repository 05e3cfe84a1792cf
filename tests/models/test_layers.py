"""Layers' forms for training."""

import pytest
import torch

from ctma import ChangeLogits, ChangeNetwork
from ctma.models.layers import Conv3d, take_training_forms


class TwoFrames(ChangeNetwork):
    """Convolves both dates over time."""

    def __init__(self):
        super().__init__()
        self.over_time = Conv3d(3, 16, 3, padding=1)

    def forward(self, before, after):
        video = torch.stack([before, after], dim=2)
        return ChangeLogits(self.over_time(video).mean(dim=(1, 2))[:, None])


def leave_in_memory(value):
    """Fills memory and frees it."""
    for size in range(6, 20):
        kept = [torch.full((2**size + 8 * extra,), value) for extra in range(8)]
        kept.clear()


@pytest.mark.parametrize("channels_last", [False, True])
def test_gradients_over_a_short_video_are_numbers_whatever_lay_in_memory(channels_last):
    torch.manual_seed(0)
    network = TwoFrames().train()
    if channels_last:
        network.to(memory_format=torch.channels_last_3d)
    take_training_forms(network)
    before, after = torch.rand(2, 2, 3, 64, 64)
    for _ in range(10):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            fine = network(before, after).fine
        leave_in_memory(torch.nan)
        fine.float().square().mean().backward()
        assert all(bool(weight.grad.isfinite().all()) for weight in network.parameters())

"""How a network is run over an image."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ctma
from ctma import ChangeLogits, SettingError
from ctma.inference.protocols import crops, find_protocol, sliding, windows
from ctma.inference.views import see
from support.networks import MeanDifference
from support.running import run_as

SIZES = st.integers(64, 700)


@given(height=SIZES, width=SIZES, stride=st.integers(16, 256))
@settings(max_examples=60, deadline=None)
def test_windows_cover_every_pixel_and_stay_inside(height, width, stride):
    count = np.zeros((height, width), int)
    for place in windows(height, width, 256, stride):
        assert place.top + place.height <= height
        assert place.left + place.width <= width
        assert (place.height, place.width) == (min(256, height), min(256, width))
        count[place.area] += 1
    assert count.min() >= 1


@pytest.mark.parametrize("name", ["crops", "whole", "sliding"])
@pytest.mark.parametrize("size", [(64, 64), (256, 256), (300, 530), (40, 90)])
def test_for_a_pixelwise_network_all_protocols_give_the_same(name, size):
    network = MeanDifference()
    before, after = torch.rand(2, 2, 3, *size, generator=torch.Generator().manual_seed(0))
    expected = network(before, after).fine.sigmoid()
    found = find_protocol(name)(partial(see, network), before, after)
    torch.testing.assert_close(found, expected)


def test_crops_see_each_square_alone_and_count_each_pixel_once():
    class MeanOfWindow(MeanDifference):
        def forward(self, before, after):
            fine = after[:, :1] * 0 + after.mean(dim=(1, 2, 3), keepdim=True)
            return ChangeLogits(fine)

    after = torch.rand(1, 3, 256, 400, generator=torch.Generator().manual_seed(0))
    probability = crops(partial(see, MeanOfWindow()), after * 0, after)
    first, moved_back = after[..., :256].mean(), after[..., 144:].mean()
    torch.testing.assert_close(probability[0, 0, 0, 255], first.sigmoid())
    torch.testing.assert_close(probability[0, 0, 0, 256], moved_back.sigmoid())


def test_sliding_is_the_mean_over_windows():
    class Ramp(MeanDifference):
        def forward(self, before, after):
            columns = torch.arange(after.shape[-1], dtype=torch.float32) / 256
            return ChangeLogits(columns.expand(len(after), 1, after.shape[-2], -1))

    image = torch.zeros(1, 3, 256, 320)
    found = sliding(partial(see, Ramp()), image, image)[0, 0, 0, 100]
    expected = (torch.tensor(100 / 256).sigmoid() + torch.tensor(36 / 256).sigmoid()) / 2
    torch.testing.assert_close(found, expected)


def test_averaged_views_see_both_sides_and_other_scales():
    class Tell(MeanDifference):
        def forward(self, before, after):
            height, width = after.shape[-2:]
            columns = (torch.arange(width) + 0.5) / width
            return ChangeLogits((columns + width / 1000).expand(1, 1, height, width))

    image = np.zeros((250, 250, 3), np.uint8)
    once, averaged = (
        ctma.predict(image, image, run_as(Tell(), "eager", tta=tta)).probability
        for tta in (False, True)
    )
    assert once[100, 200] > once[100, 50]
    widths = (200 + 312 + 312 + 200) / 4 / 1000
    np.testing.assert_allclose(averaged[100], 1 / (1 + np.exp(-0.5 - widths)), atol=1e-3)


def test_8_bit_images_are_scaled():
    image = torch.randint(0, 256, (2, 1, 3, 64, 64), dtype=torch.uint8)
    network = MeanDifference()
    torch.testing.assert_close(see(network, *image), see(network, *(image / 255)))


def test_info_takes_a_predictor_that_was_loaded_from_a_file(tiny_model):
    assert ctma.info(ctma.load(tiny_model)) == ctma.info(tiny_model)
    for other in (ctma.Predictor(ctma.create_model("fc-ef")), 3):
        with pytest.raises(SettingError, match="expected a name, a path"):
            ctma.info(other)

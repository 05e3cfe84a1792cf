"""Probabilities that mean what they say."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from ctma import (
    calibrate,
    load_model,
    read_header,
)
from ctma.errors import SettingError
from ctma.evaluation.calibration import fit_calibration
from ctma.evaluation.logits import LogitHistogram
from ctma.inference.views import see


def overconfident(seed, temperature, offset=0.0, shape=(300, 300)):
    """Probabilities and labels of a network whose logits are too large by a factor, and off."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(-2, 2, shape)
    change = (rng.random(shape) < 1 / (1 + np.exp(-honest))).astype(np.uint8)
    claimed = 1 / (1 + np.exp(-temperature * (honest - offset)))
    return claimed.astype(np.float32), change


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
@pytest.mark.parametrize("offset", [-1.0, 0.0])
def test_calibration_undoes_what_is_claimed_too_much(temperature, offset):
    histogram = LogitHistogram()
    for seed in range(3):
        histogram.add(*overconfident(seed, temperature, offset))
    found = fit_calibration(histogram)
    assert found.temperature == pytest.approx(temperature, rel=0.05)
    assert found.offset == pytest.approx(offset, abs=0.05)
    assert found.error_after < 0.01
    assert found.error_after <= found.error_before + 1e-3
    if offset:
        assert found.error_after < found.error_by_temperature / 3
    assert found.f1_after >= found.f1_before


def test_logits_far_to_one_side_are_moved_as_far_as_they_can_be_told_apart():
    change = np.array([[0, 0, 0, 1]], np.uint8)
    histogram = LogitHistogram()
    histogram.add((1 / (1 + np.exp(-np.where(change, 5.0, 3.0)))).astype(np.float32), change)
    assert fit_calibration(histogram).f1_after == 1.0


def test_the_best_threshold_is_that_of_an_exhaustive_search():
    probability, change = overconfident(0, 1.0)
    histogram = LogitHistogram()
    histogram.add(probability, change)
    found = fit_calibration(histogram)
    logits = np.log(probability / (1 - probability))
    scaled = 1 / (1 + np.exp(-logits / found.temperature - found.offset))

    def f1(threshold):
        mask = scaled > threshold
        both = (mask & (change == 1)).sum()
        return 2 * both / (mask.sum() + change.sum())

    best = max(f1(hundredth / 100) for hundredth in range(5, 96))
    assert f1(found.threshold) == pytest.approx(best, abs=2e-3)
    assert found.f1_after == pytest.approx(best, abs=2e-3)


def test_a_calibrated_checkpoint_divides_and_moves_its_logits(
    ctma, tiny_model, tiny_data, tmp_path
):
    calibrated = tmp_path / "calibrated.safetensors"
    command = ("calibrate", tiny_model, "--data", tiny_data, "--data", f"{tiny_data}/.")
    found = json.loads(ctma(*command, "-o", calibrated, "--json").stdout)
    header = read_header(calibrated)
    assert (header.temperature, header.threshold) == (found["temperature"], found["threshold"])
    assert header.calibration["split"] == "val"
    assert header.calibration["pairs"] == 5, "a folder that is named twice counts once"
    assert found["record"] == header.calibration
    refused = ctma(*command, "-o", calibrated, code=2)
    assert "calibrated.safetensors: is there already" in refused.stderr
    ctma(*command, "-o", calibrated, "--overwrite")
    before, after = torch.rand(2, 1, 3, 64, 64)
    plain, scaled = load_model(tiny_model), load_model(calibrated)
    with torch.no_grad():
        logits = plain(before, after).fine
    assert header.offset == found["offset"] != 0
    expected = (logits / found["temperature"] + found["offset"]).sigmoid()
    torch.testing.assert_close(see(scaled, before, after), expected)
    refused = ctma(
        "calibrate", tiny_model, "--data", tiny_data, "-o", calibrated, "--split", "test", code=2
    )
    assert "nothing is chosen on the test split" in refused.stderr
    with pytest.raises(SettingError, match="`split` all"):
        calibrate(tiny_model, tiny_data, calibrated, split="all", overwrite=True)


@pytest.mark.slow
def test_folders_with_labels_stored_in_two_ways_are_calibrated_on_together(
    tiny_model, tiny_data, tmp_path
):
    other = shutil.copytree(tiny_data, tmp_path / "other")
    for path in other.glob("val/label/*.png"):
        Image.fromarray(np.asarray(Image.open(path)) // 255).save(path)
    alike = shutil.copytree(tiny_data, tmp_path / "alike")
    output = tmp_path / "calibrated.safetensors"
    one, two = (
        calibrate(tiny_model, [tiny_data, second], output, overwrite=True)
        for second in (alike, other)
    )
    assert one == two


def test_what_cannot_be_calibrated_is_refused(ctma, tiny_model, tiny_data, tmp_path):
    still = shutil.copytree(tiny_data, tmp_path / "still")
    for path in still.glob("val/label/*.png"):
        Image.new("L", (64, 64)).save(path)
    output = tmp_path / "calibrated.safetensors"
    for model, data, target, why in (
        (tiny_model, still, output, "changed and unchanged"),
        (tiny_model, tiny_data, tmp_path / "calibrated.pth", "is a .safetensors"),
        (tmp_path / "original.pth", tiny_data, output, "no such checkpoint"),
        (tmp_path / "missing", tiny_data, output, "no such checkpoint"),
        (tiny_model, tiny_data, tiny_model, "would be overwritten"),
        (tiny_model, tiny_data, tiny_data / "val/A/val_0000.png/x.safetensors", "cannot write"),
    ):
        result = ctma("calibrate", model, "--data", data, "-o", target, code=2)
        assert why in result.stderr
        assert "Traceback" not in result.stderr
    assert not output.exists()

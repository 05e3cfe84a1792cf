"""Metrics, protocols, calibration."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torchmetrics.functional import classification as functional

from ctma import (
    ChangeLogits,
    ChangeNetwork,
    Scoring,
    calibrate,
    create_model,
    load_model,
    read_header,
    save_model,
)
from ctma.data.readers import find_pairs
from ctma.errors import SettingError, UnknownNameError
from ctma.evaluation.calibration import LogitHistogram, fit_calibration
from ctma.evaluation.metrics import ConfusionMatrix, Scores
from ctma.evaluation.scoring import score_pairs
from ctma.inference.protocols import crops, find_protocol, sliding, whole, windows


class MeanDifference(ChangeNetwork):
    """A network without weights to learn: the pixel's own difference."""

    bands = 3

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(20.0))

    def forward(self, before, after):
        difference = (after - before).abs().mean(dim=1, keepdim=True)
        return ChangeLogits(self.scale * (difference - 0.3))


# Metrics


def test_scores_worked_out_by_hand():
    scores = Scores(true_positive=30, false_positive=10, false_negative=20, true_negative=40)
    assert scores.precision == 0.75
    assert scores.recall == 0.6
    assert scores.f1 == pytest.approx(2 * 0.75 * 0.6 / 1.35)
    assert scores.iou == 0.5
    assert scores.accuracy == 0.7
    # Chance agrees on 0.4 * 0.5 + 0.6 * 0.5 = 0.5: kappa is (0.7 - 0.5) / 0.5.
    assert scores.kappa == pytest.approx(0.4)


@given(st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_scores_agree_with_torchmetrics(seed):
    rng = np.random.default_rng(seed)
    truth, found = torch.from_numpy(rng.random((2, 500)) > rng.uniform(0.2, 0.8))
    matrix = ConfusionMatrix(0.5)
    matrix.update(found.float(), truth)
    scores = matrix.scores()
    for name, reference in {
        "precision": functional.binary_precision,
        "recall": functional.binary_recall,
        "f1": functional.binary_f1_score,
        "iou": functional.binary_jaccard_index,
        "accuracy": functional.binary_accuracy,
        "kappa": functional.binary_cohen_kappa,
    }.items():
        expected = reference(found.int(), truth.int()).item()
        assert getattr(scores, name) == pytest.approx(expected, abs=1e-6), name


def test_one_matrix_over_all_pixels_however_they_come():
    rng = np.random.default_rng(0)
    probability = torch.from_numpy(rng.random((6, 1, 50, 50), dtype=np.float32))
    change = torch.from_numpy(rng.integers(0, 2, (6, 1, 50, 50), dtype=np.uint8))
    at_once, in_parts = ConfusionMatrix(0.3), ConfusionMatrix(0.3)
    at_once.update(probability, change)
    for part in range(6):
        in_parts.update(probability[part], change[part])
    assert at_once.scores() == in_parts.scores()
    assert at_once.scores().pixels == 6 * 50 * 50


def test_change_begins_above_the_threshold():
    matrix = ConfusionMatrix(0.5)
    matrix.update(torch.tensor([0.5, 0.500001]), torch.tensor([1, 1]))
    assert (matrix.scores().true_positive, matrix.scores().false_negative) == (1, 1)


def test_counts_stay_exact_beyond_what_floats_can_hold():
    scores = Scores(2**40 + 1, 1, 0, 2**50)
    assert scores.pixels == 2**50 + 2**40 + 2
    assert scores.precision < 1


# Protocols

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
    torch.testing.assert_close(find_protocol(name)(network, before, after), expected)


def test_crops_see_each_square_alone_and_count_each_pixel_once():
    class MeanOfWindow(MeanDifference):
        def forward(self, before, after):
            fine = after[:, :1] * 0 + after.mean(dim=(1, 2, 3), keepdim=True)
            return ChangeLogits(fine)

    after = torch.rand(1, 3, 256, 400, generator=torch.Generator().manual_seed(0))
    probability = crops(MeanOfWindow(), after * 0, after)
    first, moved_back = after[..., :256].mean(), after[..., 144:].mean()
    torch.testing.assert_close(probability[0, 0, 0, 255], first.sigmoid())
    torch.testing.assert_close(probability[0, 0, 0, 256], moved_back.sigmoid())


def test_sliding_is_the_mean_over_windows():
    class Ramp(MeanDifference):
        def forward(self, before, after):
            columns = torch.arange(after.shape[-1], dtype=torch.float32) / 256
            return ChangeLogits(columns.expand(len(after), 1, after.shape[-2], -1))

    image = torch.zeros(1, 3, 256, 320)
    found = sliding(Ramp(), image, image)[0, 0, 0, 100]
    expected = (torch.tensor(100 / 256).sigmoid() + torch.tensor(36 / 256).sigmoid()) / 2
    torch.testing.assert_close(found, expected)


def test_8_bit_images_are_scaled():
    image = torch.randint(0, 256, (2, 1, 3, 64, 64), dtype=torch.uint8)
    network = MeanDifference()
    torch.testing.assert_close(whole(network, *image), whole(network, *(image / 255)))


def test_a_score_is_not_taken_in_a_way_that_does_not_exist():
    with pytest.raises(UnknownNameError, match=r"slidin.*sliding"):
        Scoring(protocol="slidin")
    with pytest.raises(UnknownNameError, match=r"bf16.*bf16-mixed"):
        Scoring(precision="bf16")
    with pytest.raises(SettingError, match=r"`threshold` 1\.5"):
        Scoring(threshold=1.5)
    with pytest.raises(SettingError, match="`ground_sample_distance` -1"):
        Scoring(ground_sample_distance=-1)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_scores_do_not_depend_on_the_batch(tiny_data, batch_size):
    pairs = find_pairs(tiny_data, "val")
    judged = []
    scores = score_pairs(MeanDifference(), pairs, batch_size=batch_size, on_pair=judged.append)
    assert scores == score_pairs(MeanDifference(), pairs)
    assert [one.pair for one in judged] == pairs
    found = sum(int((one.mask & one.change).sum()) for one in judged)
    assert found == scores.true_positive


def test_averaged_over_flipped_views_a_mirrored_data_set_scores_alike(
    ctma, tiny_model, tiny_data, tmp_path
):
    mirrored = shutil.copytree(tiny_data, tmp_path / "mirrored")
    for path in mirrored.glob("val/*/*.png"):
        ImageOps.mirror(Image.open(path)).save(path)
    model = shutil.copy(tiny_model, tmp_path)
    counts = {}
    for options in ([], ["--tta"]):
        for data in (tiny_data, mirrored):
            command = ["eval", model, "--data", data, "--split", "val", "--threshold", "0.484"]
            record = json.loads(ctma(*command, "--json", *options).stdout)
            assert record["tta"] == bool(options)
            counts[bool(options), data] = record["true_positive"], record["false_positive"]
    assert counts[True, tiny_data] == counts[True, mirrored]
    assert counts[False, tiny_data] != counts[False, mirrored]
    names = {path.name for path in tmp_path.glob("scores-*")}
    assert names == {
        f"scores-{data}-val-crops-0.484{views}.json"
        for data in ("tiny", "mirrored")
        for views in ("", "-tta")
    }


def test_with_their_distance_given_images_are_scored_as_the_network_knows_them(
    ctma, tiny_data, tmp_path
):
    torch.manual_seed(0)
    model = tmp_path / "model.safetensors"
    network = create_model("ctma-s", video_len=2)
    network.usage = replace(network.usage, ground_sample_distance=0.5, threshold=0.484)
    save_model(model, network)
    command = ["eval", model, "--data", tiny_data, "--split", "val", "--json"]
    records = [
        json.loads(ctma(*command, *options).stdout)
        for options in ([], ["--gsd", "0.5"], ["--gsd", "1"])
    ]
    assert [record["ground_sample_distance"] for record in records] == [None, 0.5, 1]
    assert [record["enlargement"] for record in records] == [1, 1, 2]
    counts = [(record["true_positive"], record["false_positive"]) for record in records]
    assert counts[0] == counts[1] != counts[2]
    names = {path.name for path in tmp_path.glob("scores-*")}
    assert names == {f"scores-tiny-val-crops{ending}.json" for ending in ("", "-0.5m", "-1m")}
    assert "expect little" in ctma(*command, "--gsd", "5").stderr
    refused = ctma(*command, "--gsd", "0", code=2)
    assert "--gsd 0" in refused.stderr


# Calibration


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
    result = ctma(
        "calibrate",
        tiny_model,
        "--data",
        tiny_data,
        "--data",
        tiny_data,
        "-o",
        calibrated,
        "--json",
    )
    found = json.loads(result.stdout)
    header = read_header(calibrated)
    assert (header.temperature, header.threshold) == (found["temperature"], found["threshold"])
    assert header.calibration["split"] == "val"
    assert header.calibration["pairs"] == 10
    before, after = torch.rand(2, 1, 3, 64, 64)
    plain, scaled = load_model(tiny_model), load_model(calibrated)
    with torch.no_grad():
        logits = plain(before, after).fine
    assert header.offset == found["offset"] != 0
    expected = (logits / found["temperature"] + found["offset"]).sigmoid()
    torch.testing.assert_close(whole(scaled, before, after), expected)
    refused = ctma(
        "calibrate", tiny_model, "--data", tiny_data, "-o", calibrated, "--split", "test", code=2
    )
    assert "nothing is chosen on the test split" in refused.stderr


def test_folders_with_labels_stored_in_two_ways_are_calibrated_on_together(
    tiny_model, tiny_data, tmp_path
):
    other = shutil.copytree(tiny_data, tmp_path / "other")
    for path in other.glob("val/label/*.png"):
        Image.fromarray(np.asarray(Image.open(path)) // 255).save(path)
    output = tmp_path / "calibrated.safetensors"
    one, two = (calibrate(tiny_model, [tiny_data, second], output) for second in (tiny_data, other))
    assert one == two


def test_what_cannot_be_calibrated_is_refused(ctma, tiny_model, tiny_data, tmp_path):
    still = shutil.copytree(tiny_data, tmp_path / "still")
    for path in still.glob("val/label/*.png"):
        Image.new("L", (64, 64)).save(path)
    output = tmp_path / "calibrated.safetensors"
    for model, data, target, why in (
        (tiny_model, still, output, "changed and unchanged"),
        (tiny_model, tiny_data, tmp_path / "calibrated.pth", "is a .safetensors"),
        (tmp_path / "original.pth", tiny_data, output, "ctma convert"),
        (tmp_path / "missing", tiny_data, output, "no such checkpoint"),
        (tiny_model, tiny_data, tiny_data / "val/A/val_0000.png/x.safetensors", "cannot write"),
    ):
        result = ctma("calibrate", model, "--data", data, "-o", target, code=2)
        assert why in result.stderr
        assert "Traceback" not in result.stderr
    assert not output.exists()

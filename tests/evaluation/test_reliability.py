"""Of objects said 0.8, 80 % are change."""

import json

import geopandas
import numpy as np
import pytest
from PIL import Image
from scipy.special import expit, logit

from ctma import SettingError, Usage, read_header
from ctma.evaluation.calibration import fit_calibration
from ctma.evaluation.logits import LogitHistogram
from ctma.evaluation.reliability import ObjectTally
from support.maps import Brighter, paint
from support.scenes import predict_scene, write_raster


def careful(count, temperature, offset, seed=0):
    """Objects whose probability is said too carefully."""
    rng = np.random.default_rng(seed)
    honest = rng.uniform(-3, 3, count)
    return ObjectTally(
        expit((honest - offset) * temperature).tolist(),
        (rng.random(count) < expit(honest)).tolist(),
    )


@pytest.fixture
def calibration():
    histogram = LogitHistogram()
    rng = np.random.default_rng(1)
    change = (rng.random((200, 200)) < 0.3).astype(np.uint8)
    histogram.add(np.where(change, 0.7, 0.2).astype(np.float32), change)
    return fit_calibration(histogram)


def test_the_probability_of_objects_is_calibrated(calibration):
    tally = careful(4000, 0.4, -0.5)
    found = calibration.with_objects(tally)
    assert found.object_temperature == pytest.approx(0.4, rel=0.1)
    assert found.object_offset == pytest.approx(-0.5, abs=0.15)
    assert found.error_of_objects_after < 0.3 * found.error_of_objects_before
    fresh = careful(4000, 0.4, -0.5, seed=7).scaled(found.put_into(Usage()))
    assert fresh.error() < 0.04


def test_few_objects_calibrate_nothing(calibration):
    tally = ObjectTally([0.9] * 60, [True] * 50 + [False] * 10)
    assert calibration.with_objects(tally) == calibration


def test_objects_are_right_where_half_of_them_is_change():
    class One:
        mask = np.array([[1, 1, 0, 1, 1, 1]], np.uint8)
        change = np.array([[1, 0, 0, 0, 0, 1]], np.uint8)
        probability = np.array([[0.6, 0.8, 0.1, 0.9, 0.9, 0.9]], np.float32)

    tally = ObjectTally()
    tally.add(One)
    assert tally.said == pytest.approx([0.7, 0.9])
    assert tally.right == [True, False]
    assert tally.bins() == [(pytest.approx(0.7), 1.0, 1), (pytest.approx(0.9), 0.0, 1)]


def test_objects_count_by_the_pixels_that_have_a_label():
    class One:
        mask = np.array([[1, 1, 1, 0, 1, 1, 1, 0, 1, 1]], np.uint8)
        change = np.array([[1, 255, 0, 0, 255, 255, 1, 255, 255, 1]], np.uint8)
        probability = np.full((1, 10), 0.9, np.float32)

    tally = ObjectTally()
    tally.add(One)
    assert tally.right == [True, True]  # the second object mostly has no label


def test_polygons_of_a_map_say_the_calibrated_probability(tmp_path):
    squares = [(30, 30, 40, 150), (120, 40, 30, 240)]
    paths = [
        write_raster(tmp_path / name, pixels)
        for name, pixels in zip(("1.tif", "2.tif"), paint((200, 200), squares), strict=True)
    ]
    network = Brighter().eval()
    predict_scene(*paths, network, tmp_path / "plain")
    network.usage = network.usage.replace(object_temperature=0.5, object_offset=-0.4)
    predict_scene(*paths, network, tmp_path / "scaled")
    plain, scaled = (
        geopandas.read_file(tmp_path / name / "changes.gpkg", layer="changes")
        for name in ("plain", "scaled")
    )
    expected = expit(logit(np.clip(plain["mean_probability"], 1e-6, 1 - 1e-6)) / 0.5 - 0.4)
    assert scaled["mean_probability"].to_numpy() == pytest.approx(expected.to_numpy(), abs=2e-4)
    assert (scaled["max_probability"] == plain["max_probability"]).all()
    for name in ("mask.tif", "probability.tif"):
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "scaled" / name).read_bytes()


def test_eval_draws_what_is_said_against_what_is_right(ctma, tiny_model, tiny_data, tmp_path):
    ctma("eval", tiny_model, "--data", tiny_data, "-o", tmp_path / "s.json",
         "--figures", tmp_path / "figures", "--threshold", "0.3")  # fmt: skip
    (drawn,) = (tmp_path / "figures").glob("*-objects.png")
    assert Image.open(drawn).width > 500


def test_calibrate_tells_of_objects_as_json(ctma, tiny_model, tiny_data, tmp_path):
    told = ctma("calibrate", tiny_model, "--data", tiny_data, "-o", tmp_path / "c.safetensors",
                "--json").stdout  # fmt: skip
    found = json.loads(told)
    header = read_header(tmp_path / "c.safetensors")
    assert found["object_temperature"] == header.object_temperature
    with pytest.raises(SettingError, match="object_temperature"):
        Usage(object_temperature=0)

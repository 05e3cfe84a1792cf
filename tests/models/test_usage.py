"""What a network knows of its use, how it is kept, and that it is heeded."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

import ctma
from ctma import Predictor, Usage, create_model, load_model, read_header
from ctma.data.readers import find_pairs
from ctma.errors import CheckpointError, CtmaError, SettingError
from ctma.evaluation.scoring import score_pairs
from support.images import random_image
from support.networks import MeanDifference
from support.weights import rewrite


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 1.5}, {"threshold": float("nan")}, {"temperature": 0.0}, {"scaling": -1.0},
        {"offset": float("inf")}, {"ground_sample_distance": 0.0},
    ],
    ids=str,
)  # fmt: skip
def test_values_out_of_range_are_refused_under_their_name(wrong):
    (name,) = wrong
    with pytest.raises(SettingError, match=f"`{name}`"):
        Usage(**wrong)


def test_bands_without_a_name_are_numbered_and_three_are_colours():
    assert MeanDifference().usage.bands == ("red", "green", "blue")
    network = MeanDifference(bands=4)
    assert network.usage.bands == ("band 1", "band 2", "band 3", "band 4")
    with pytest.raises(SettingError, match=r"`bands` \('red', 'green', 'blue'\).*takes 4"):
        network.usage = Usage()


def test_a_checkpoint_keeps_the_names_of_its_bands(tmp_path):
    network = create_model("ctma-s", bands=4, video_len=2)
    ctma.save_model(tmp_path / "unnamed.safetensors", network)
    unnamed = read_header(tmp_path / "unnamed.safetensors").bands
    assert unnamed == ("band 1", "band 2", "band 3", "band 4")
    names = ("red", "green", "blue", "near infrared")
    network.usage = network.usage.replace(bands=names)
    ctma.save_model(tmp_path / "named.safetensors", network)
    found = load_model(tmp_path / "named.safetensors")
    assert found.usage.bands == names
    image = random_image(1)
    with pytest.raises(ctma.CtmaError, match="near infrared"):
        ctma.predict(image, image, found)


def test_bands_in_another_order_are_refused_for_pictures_and_taken_for_arrays(tiny_data):
    network = MeanDifference().eval()
    network.usage = network.usage.replace(bands=("blue", "green", "red"))
    pairs = find_pairs(tiny_data, "val")
    for look in (
        lambda: ctma.predict(pairs[0].before, pairs[0].after, network),
        lambda: score_pairs(Predictor(network), pairs),
    ):
        with pytest.raises(CtmaError, match=r"takes .*blue, green, red"):
            look()
    assert ctma.predict(random_image(1), random_image(2), network).mask.any()


def header_of(path):
    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()["ctma"])


@pytest.mark.parametrize(("version", "advice"), [(1, "before its release"), (3, "upgrade ctma")])
def test_headers_of_other_formats_are_refused(tiny_model, tmp_path, version, advice):
    other = header_of(tiny_model) | {"format_version": version}
    path = rewrite(tiny_model, tmp_path / "o.safetensors", metadata={"ctma": json.dumps(other)})
    with pytest.raises(CheckpointError, match=f"header of format {version}, not 2; .*{advice}"):
        load_model(path)


def test_a_field_of_a_newer_version_is_no_reason_to_refuse_and_is_kept(tiny_model, tmp_path):
    newer = header_of(tiny_model) | {"agreement": {"bf16": 0.9999}}
    path = rewrite(tiny_model, tmp_path / "a.safetensors", metadata={"ctma": json.dumps(newer)})
    network = load_model(path)
    ctma.save_model(tmp_path / "b.safetensors", network)
    assert header_of(tmp_path / "b.safetensors")["agreement"] == {"bf16": 0.9999}


def test_a_network_that_could_not_be_loaded_again_is_not_saved(tmp_path):
    with pytest.raises(CheckpointError, match="MeanDifference cannot be loaded again"):
        ctma.save_model(tmp_path / "m.safetensors", MeanDifference())
    assert not list(tmp_path.iterdir())


def test_images_are_scaled_by_what_the_checkpoint_says():
    network = MeanDifference().eval()
    before, after = random_image(1), random_image(2)
    by_255 = ctma.predict(before, after, network).probability
    network.usage = network.usage.replace(scaling=100.0)
    found = ctma.predict(before, after, network).probability
    scaled = [np.clip(image / 100, 0, 1) for image in (before, after)]
    np.testing.assert_allclose(found, ctma.predict(*scaled, network).probability, atol=1e-6)
    assert (found != by_255).any()


def test_scores_are_taken_at_the_scaling_and_threshold_of_the_checkpoint(tiny_data):
    pairs = find_pairs(tiny_data, "val")
    network = MeanDifference().eval()
    plain = score_pairs(Predictor(network), pairs)
    network.usage = network.usage.replace(scaling=128.0)
    brighter = score_pairs(Predictor(network), pairs)
    assert brighter.true_positive + brighter.false_positive > (
        plain.true_positive + plain.false_positive
    )
    network.usage = network.usage.replace(threshold=1.0)
    assert score_pairs(Predictor(network), pairs).true_positive == 0


def test_the_fingerprint_tells_weights_and_numbers_apart():
    prints = {MeanDifference().fingerprint(), MeanDifference(gain=21.0).fingerprint()}
    calibrated = MeanDifference()
    calibrated.usage = calibrated.usage.replace(temperature=1.2)
    assert len(prints | {calibrated.fingerprint()}) == 3
    assert MeanDifference().fingerprint() in prints


@pytest.mark.parametrize(
    ("name", "expected"), [("ctma-s", "ae640adb93041ced"), ("ctma-lite", "7c1107ea1ee3412d")]
)
def test_the_fingerprint_of_weights_stays_from_version_to_version(name, expected):
    network = create_model(name, video_len=2)
    for weight in network.state_dict().values():
        weight.zero_()
    assert network.fingerprint().startswith(expected)


def test_a_network_knows_its_device():
    assert MeanDifference().device == torch.device("cpu")
    assert MeanDifference().to("meta").device == torch.device("meta")

"""How far images are from what a network was trained on."""

import numpy as np
import pytest
from scipy import ndimage

from ctma import CheckpointError, DataError, SettingError, create_model, load_model, remember_seen
from ctma.inference.doubt import PATCH, Seen, cut_patches, describe_patches, learn_seen
from support.commands import refused
from support.images import write_split


def ground(seed, count=60, blur=2.0, bands=3):
    """Patches of smooth ground with green and brown tints."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count, PATCH, PATCH, 1))
    grey = ndimage.gaussian_filter(noise, (0, blur, blur, 0))
    tint = np.array([0.42, 0.4, 0.33])[:bands] * rng.uniform(0.8, 1.2, (count, 1, 1, 1))
    fine = ndimage.gaussian_filter(rng.normal(size=(count, PATCH, PATCH, bands)), (0, 1, 1, 0))
    return np.clip(tint * (1 + 1.5 * grey) + 0.03 * fine, 0, 1)


@pytest.fixture(scope="module")
def seen():
    return learn_seen([describe_patches(ground(seed)) for seed in range(12)])


def test_ground_like_the_training_images_counts_as_seen(seen):
    assert (seen.distance(describe_patches(ground(99))) > 1).mean() < 0.15


@pytest.mark.parametrize(
    "act",
    [
        lambda x: 0.1 * x,
        lambda x: x[..., ::-1],
        lambda x: ndimage.gaussian_filter(x, (0, 4, 4, 0)),
        lambda x: np.clip(x + np.random.default_rng(0).normal(0, 0.15, x.shape), 0, 1),
        lambda x: np.full_like(x, 0.95),
        np.zeros_like,
    ],
    ids=["night", "band order", "blur", "noise", "cloud", "nothing"],
)
def test_other_ground_counts_as_unlike(seen, act):
    assert (seen.distance(describe_patches(act(ground(99)))) > 1).mean() > 0.9


def test_what_was_seen_survives_the_header(seen):
    text = seen.write()
    assert len(text) < 20_000
    again = Seen.read(text)
    patches = describe_patches(ground(5))
    assert again.distance(patches) == pytest.approx(seen.distance(patches), rel=1e-4)
    for damaged in (text[: len(text) // 2], "no base64!", ""):
        with pytest.raises(CheckpointError, match="damaged"):
            Seen.read(damaged)


def test_other_bands_and_too_few_patches_are_refused(seen):
    with pytest.raises(DataError, match="other bands"):
        seen.distance(describe_patches(ground(1, bands=2)))
    with pytest.raises(DataError, match="at least 512 are needed"):
        learn_seen([describe_patches(ground(1))])


def test_patches_are_spread_over_an_image():
    image = np.random.default_rng(0).random((300, 200, 3))
    assert cut_patches(image, 100).shape == (12, PATCH, PATCH, 3)
    assert len(cut_patches(image, 5)) <= 5
    assert len(cut_patches(image[:40], 5)) == 0


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_split(root / "train", [f"p{number}" for number in range(300)])
    return root


def test_a_checkpoint_remembers_its_training_images(data, ctma, tiny_model, tmp_path):
    network = create_model("ctma-s", video_len=2).eval()
    seen = remember_seen(network, data, tmp_path / "m.safetensors")
    assert network.usage.seen == ""
    usage = load_model(tmp_path / "m.safetensors").usage
    assert Seen.read(usage.seen).edge == pytest.approx(seen.edge)
    command = ("calibrate", tiny_model, "--data", data, "-o", tmp_path / "c.safetensors", "--seen")
    assert "128 descriptions" in ctma(*command).stdout
    again = ("calibrate", tiny_model, "--data", data, "-o", tmp_path / "d.safetensors")
    refused(ctma, "at least 512 are needed", *again, "--seen", "--names", "p1$")
    refused(ctma, "finds no pair", *again, "--seen", "--names", "absent")
    refused(ctma, "--names is for --seen", *again, "--names", "p")
    refused(ctma, "--miss has no part in --seen", *again, "--seen", "--miss", "0.1")
    with pytest.raises(SettingError, match="no regular expression"):
        remember_seen(network, data, tmp_path / "e.safetensors", names="(")

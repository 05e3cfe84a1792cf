"""The network is the published one: the released implementation's numbers."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ctma import load_model, load_recipe
from ctma.checkpoints.conversion import convert
from ctma.inference.protocols import sliding, windows
from ctma.inference.views import see
from ctma.training.losses import change_loss
from ctma.training.settings import BCESettings
from support import GOLDEN
from support.golden import golden_image, golden_label, golden_state

# Our names of the released top-level parts whose gradient norms are given.
PARTS = {
    "encoder_v": ["temporal_encoder."],
    "encoder_p1": ["unmasked_branch.", "difference_path."],
    "encoder_p2": ["masked_branch."],
    "conv_out_v": ["coarse_head."],
    "convs_video": ["tams."],
    "decoder1": ["unmasked_decoder."],
    "decoder2": ["masked_decoder."],
}


OTHERS = (
    "fc-ef", "fc-siam-conc", "fc-siam-diff", "cdnet", "stanet", "bit", "lunet", "snunet", "dsamnet",
    "dsifn", "p2v",
)  # fmt: skip
WITHOUT_DROPOUT = {
    **{name: {"dropout": 0.0} for name in ("fc-ef", "fc-siam-conc", "fc-siam-diff", "stanet")},
    "dsamnet": {"dropout": (0.0, 0.0)},
    "dsifn": {"dropout": 0.0, "normalised": False},
}


@pytest.fixture(scope="module")
def outputs():
    return np.load(GOLDEN / "ctma_outputs.npz")


@pytest.mark.slow
@pytest.mark.parametrize("video_len", [8, 4])
def test_every_golden_array_agrees_through_convert(video_len, golden_file, outputs, tmp_path):
    path = tmp_path / "converted.safetensors"
    convert(golden_file, path, arguments={"fusion": 0.67, "video_len": video_len})
    network = load_model(path)
    with torch.no_grad():
        stages = network.stages(golden_image(1, 2, 256, 256), golden_image(2, 2, 256, 256))
    found = {
        "coarse_logit": stages.coarse_logits,
        "spatial_logit": stages.unmasked_logits[..., ::4, ::4],
        "masked_logit": stages.masked_logits[..., ::4, ::4],
        "fused_logit_levircd": stages.fused_logits[..., ::4, ::4],
        "difference_feature": stages.difference[:, ::8, ::4, ::4],
        "tam1": stages.motion[0][:, ::16, ::4, ::4],
        "tam2": stages.motion[1][:, ::32, ::4, ::4],
    }
    golden = {key: outputs[key] for key in outputs if key.startswith(f"video_len_{video_len}/")}
    assert golden.keys() == {f"video_len_{video_len}/{name}" for name in found}
    for name, values in found.items():
        expected = golden[f"video_len_{video_len}/{name}"]
        np.testing.assert_allclose(values.numpy(), expected, atol=1e-4, rtol=0, err_msg=name)


@pytest.mark.slow
def test_first_golden_training_step_agrees(golden_file):
    step = json.loads((GOLDEN / "ctma_stats.json").read_text())["train_steps"][0]
    network = load_model(golden_file, {"fusion": 0.67}).train()
    # The released layout: channels-last sums in another order, and gradients feel it.
    network.to(memory_format=torch.contiguous_format)
    change = golden_label()
    logits = network(golden_image(1, 2, 256, 256), golden_image(2, 2, 256, 256))
    loss = change_loss(logits, change, BCESettings())
    loss.backward()

    fine = F.binary_cross_entropy_with_logits(logits.fine, change.float())
    assert loss.item() == pytest.approx(step["loss"], abs=1e-4)
    assert fine.item() == pytest.approx(step["fine_loss"], abs=1e-4)
    for part, prefixes in PARTS.items():
        squares = sum(
            parameter.grad.double().square().sum()
            for name, parameter in network.named_parameters()
            if name.startswith(tuple(prefixes))
        )
        norm = float(squares.sqrt())
        # In float64 the norms differ from the released float32 figures by up to 1.4e-4.
        assert norm == pytest.approx(step["grad_norm"][part], rel=2e-4), part


@pytest.fixture(scope="module")
def released_file(tmp_path_factory):
    """By name of a network: the golden weights as a file of its released implementation."""

    def write(network):
        path = tmp_path_factory.mktemp("released") / f"{network}.pth"
        torch.save({"state_dict": golden_state(network)}, path)
        return path

    return write


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_golden_outputs_of_the_other_networks_agree_both_ways(released_file, name, tmp_path):
    path = released_file(name)
    arguments = {"normalised": False} if name == "dsifn" else {}
    convert(path, tmp_path / "ours.safetensors", arguments=arguments)
    network = load_model(tmp_path / "ours.safetensors")
    assert network.name == name
    # The released layout: in another one CDNet's maxima, some of which are ties, lie elsewhere.
    network.to(memory_format=torch.contiguous_format)
    with torch.no_grad():
        logits = network(golden_image(1, 1, 256, 256), golden_image(2, 1, 256, 256))
    golden = [*np.load(GOLDEN / f"{name}_outputs.npz").values()]
    fine = logits.fine + getattr(network, "margin", 0)
    for values, expected in zip((fine, *logits.auxiliary), golden, strict=True):
        if expected.shape[1] == 2:
            expected = expected[:, 1:] - expected[:, :1]
        if name == "p2v":
            values = F.interpolate(values, (256, 256), mode="nearest")
        np.testing.assert_allclose(values[..., ::4, ::4], expected, atol=1e-4, rtol=0)
    convert(tmp_path / "ours.safetensors", tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)["state_dict"]
    weights = golden_state(name)
    if name == "dsifn":  # one module under two names, of which the second holds
        twins = {key: weights[key.replace("encoder1", "encoder2")] for key in weights}
        weights |= {key: twin for key, twin in twins.items() if "encoder1" in key}
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[key], weights[key]) for key in weights)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in OTHERS if name != "p2v"])
def test_golden_training_steps_of_the_other_networks_agree(released_file, name):
    step = json.loads((GOLDEN / f"{name}_train_step.json").read_text())
    network = load_model(released_file(name), WITHOUT_DROPOUT.get(name, {}))
    network.train().to(memory_format=torch.contiguous_format)
    logits = network(golden_image(1, 2, 256, 256), golden_image(2, 2, 256, 256))
    loss = change_loss(logits, golden_label(), load_recipe(f"svcd/{name}").loss)
    loss.backward()
    gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
    squares = sum(gradient.double().square().sum() for gradient in gradients)
    assert loss.item() == pytest.approx(step["loss"], rel=1e-4)
    assert float(squares.sqrt()) == pytest.approx(step["gradient_norm"], rel=1e-3)


@pytest.mark.slow
@pytest.mark.long
def test_sliding_protocol_meets_the_golden_windows(golden_file):
    golden = np.load(GOLDEN / "sliding_window.npz")
    network = load_model(golden_file, {"fusion": 0.67})
    pair = [golden_image(number, 1, 320, 400) for number in (11, 12)]
    probability = sliding(partial(see, network), *pair)
    found = probability[0, 0, ::4, ::4].numpy()
    np.testing.assert_allclose(found, golden["probability"], atol=1e-4, rtol=0)


def test_windows_are_the_golden_ones():
    golden = np.load(GOLDEN / "sliding_window.npz")
    places = windows(320, 400, 256, 64)
    assert [[place.top, place.left] for place in places] == golden["window_origins"].tolist()
    count = np.zeros((320, 400), int)
    for place in places:
        count[place.area] += 1
    np.testing.assert_array_equal(count[::4, ::4], golden["count"])

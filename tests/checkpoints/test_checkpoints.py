"""Checkpoints explain themselves and run no code."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch

from ctma import CtmaWarning, create_model, load, load_model, predict, read_header, save_model
from ctma.checkpoints.conversion import convert
from ctma.checkpoints.header import find_checkpoint, shipped_models
from ctma.checkpoints.released import read_released, sort_optimizer, write_released
from ctma.errors import CheckpointError, OutputError, SettingError, UnknownNameError
from support import ROOT
from support.images import random_image
from support.weights import rewrite

FULL = ROOT / "weights/ctma.safetensors"
PAPER = ROOT / "weights/ctma-resnet34.safetensors"


def test_the_header_holds_what_is_needed_to_use_the_weights(tmp_path):
    network = create_model("ctma-s", video_len=4)
    network.usage = network.usage.replace(ground_sample_distance=0.5, threshold=0.4)
    known = {
        "training_data": {"name": "LEVIR-CD", "fingerprint": "0" * 16},
        "scores": [{"split": "val", "f1": 0.5}],
    }
    save_model(tmp_path / "m.safetensors", network, **known)
    header = read_header(tmp_path / "m.safetensors")
    assert header.ctma_version
    assert (header.network, header.arguments) == ("ctma-s", {"video_len": 4})
    assert (header.ground_sample_distance, header.threshold) == (0.5, 0.4)
    found = load_model(tmp_path / "m.safetensors")
    assert found.usage == network.usage
    assert {name: found.provenance[name] for name in known} == known
    save_model(tmp_path / "again.safetensors", found)
    assert read_header(tmp_path / "again.safetensors") == header


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda w: w.pop("coarse_head.bias"), r"coarse_head\.bias is missing"),
        (lambda w: w.update(extra=torch.zeros(1)), "extra is surplus"),
        (
            lambda w: w.update({"coarse_head.bias": torch.zeros(2)}),
            r"coarse_head\.bias is \(2,\), expected \(1,\)",
        ),
    ],
    ids=["missing", "surplus", "misshapen"],
)
def test_weights_that_do_not_fit_are_named(tiny_model, tmp_path, change, expected):
    with pytest.raises(CheckpointError, match=expected):
        load_model(rewrite(tiny_model, tmp_path / "bad.safetensors", change))


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, "no ctma header"),
        ({"ctma": "{"}, "damaged ctma header"),
        ({"ctma": "[]"}, "damaged ctma header"),
        ({"ctma": '{"format_version": 2}'}, "damaged ctma header"),
        ({"ctma": '{"format_version": 99, "network": "ctma"}'}, "format 99"),
        ({"ctma": '{"format_version": 2, "network": "ctmx"}'}, "unknown network"),
        ({"ctma": '{"format_version": 2, "network": "ctma", "threshold": 7}'}, "damaged"),
        ({"ctma": '{"format_version": 2, "network": "ctma"}'}, "weights do not fit"),
    ],
)
def test_bad_headers_are_refused(tiny_model, tmp_path, metadata, expected):
    with pytest.raises(CheckpointError, match=expected):
        load_model(rewrite(tiny_model, tmp_path / "bad.safetensors", metadata=metadata))


def test_a_runs_folder_stands_for_its_best_and_a_training_state_is_known(tiny_model, tmp_path):
    shutil.copy(tiny_model, tmp_path / "best.safetensors")
    assert read_header(tmp_path).network == "ctma-s"
    assert load_model(tmp_path).arguments == {"video_len": 2}
    with pytest.raises(CheckpointError, match=r"latest\.ckpt: is what a training resumes"):
        load_model(tmp_path / "latest.ckpt")


def test_damaged_files_are_refused(tiny_model, tmp_path, golden_file):
    for source, name in ((tiny_model, "cut.safetensors"), (golden_file, "cut.pth")):
        (tmp_path / name).write_bytes(source.read_bytes()[:20_000])
        with pytest.raises(CheckpointError, match=f"{name}: not a whole"):
            load_model(tmp_path / name)
    for name in ("absent.safetensors", "absent.pth"):
        with pytest.raises(CheckpointError, match="no such checkpoint"):
            load_model(tmp_path / name)


def test_weights_that_were_zeroed_on_disk_are_refused(tiny_model, tmp_path):
    content = tiny_model.read_bytes()
    (tmp_path / "z.safetensors").write_bytes(content[:-4096] + bytes(4096))
    with pytest.raises(CheckpointError, match="do not fit its checksum"):
        load_model(tmp_path / "z.safetensors")


class Trap:
    """Runs code when unpickled without care."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("kind", ["torch", "pickle"])
def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path, kind):
    marker, path = tmp_path / "marker", tmp_path / "trap.pth"
    content = {"state_dict": {"weight": torch.zeros(1)}, "trap": Trap(marker)}
    if kind == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match=r"trap\.pth"):
        load_model(path)
    assert not marker.exists()


@pytest.mark.slow
def test_original_weights_go_there_and_back_unchanged(golden_file, golden_weights, tmp_path):
    ours, back = tmp_path / "ours.safetensors", tmp_path / "back.pth"
    convert(golden_file, ours, arguments={"fusion": 0.67}, ground_sample_distance=0.5)
    assert read_header(ours).arguments == {"fusion": 0.67}
    assert read_header(ours).ground_sample_distance == 0.5
    convert(ours, back)
    content = read_released(back)
    assert content["epoch"] == 0
    assert content.keys() == {"epoch", "state_dict", "optimizer", "max_acc"}
    assert content["state_dict"].keys() == golden_weights.keys()
    for name, weight in golden_weights.items():
        assert torch.equal(content["state_dict"][name], weight), name


def test_our_parameters_are_in_the_released_order(golden_weights):
    network = create_model("ctma")
    assert [network.released.rename(name) for name in network.state_dict()] == list(golden_weights)


@pytest.mark.slow
def test_a_plain_or_parallel_state_dict_is_read_too(golden_weights, tmp_path):
    torch.save(golden_weights, tmp_path / "plain.pth")
    parallel = {f"module.{name}": weight for name, weight in golden_weights.items()}
    torch.save({"state_dict": parallel}, tmp_path / "parallel.pth")
    for name in ("plain.pth", "parallel.pth"):
        bias = load_model(tmp_path / name).coarse_head.bias
        assert bias.item() == pytest.approx(0.3299)


def test_original_weights_of_another_network_are_refused(tmp_path):
    torch.save({"state_dict": {"conv.weight": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="of no network that is known here"):
        load_model(tmp_path / "other.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(CheckpointError, match=r"empty\.pth"):
        load_model(tmp_path / "empty.pth")


def test_weights_of_a_relative_that_shares_names_are_not_taken_for_ctma(golden_weights, tmp_path):
    # It names its temporal encoder alike, and has one spatial encoder without a backbone.
    relative = {
        name.replace("encoder_p1.", "encoder_q."): weight
        for name, weight in golden_weights.items()
        if "backbone" not in name and not name.startswith(("encoder_p2.", "decoder2."))
    }
    torch.save({"state_dict": relative}, tmp_path / "relative.pth")
    with pytest.raises(CheckpointError, match=r"of no network that is known here \(ctma, "):
        load_model(tmp_path / "relative.pth")


def test_what_a_released_file_does_not_say_is_asked_for(golden_file, tmp_path):
    with pytest.raises(CheckpointError, match=r"does not say `fusion`; give it: 0\.5 for SVCD"):
        convert(golden_file, tmp_path / "ours.safetensors")
    assert not list(tmp_path.iterdir())


def test_what_a_released_file_cannot_hold_is_said(golden_file, tmp_path):
    ours, arguments = tmp_path / "ours.safetensors", {"fusion": 0.67, "video_len": 4}
    network = convert(golden_file, ours, arguments=arguments)
    network.usage = network.usage.replace(threshold=0.4, ground_sample_distance=0.5)
    save_model(tmp_path / "used.safetensors", network)
    with pytest.warns(CtmaWarning) as caught:
        convert(tmp_path / "used.safetensors", tmp_path / "b.pth")
    assert [str(warning.message) for warning in caught] == [
        "b.pth cannot hold fusion 0.67, video_len 4, threshold 0.4, ground_sample_distance 0.5; "
        "say it again where it is read"
    ]


def test_only_what_was_released_is_written_as_released(tiny_model, tmp_path):
    other = tmp_path / "other.safetensors"
    save_model(other, create_model("ctma", backbone="regnetx_002"))
    for path, name in ((tiny_model, "ctma-s"), (other, "ctma")):
        with pytest.raises(CheckpointError, match=f"has the layers of this {name}"):
            convert(path, tmp_path / "released.pth")
    assert list(tmp_path.iterdir()) == [other]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ours", "original"])
def test_half_precision_halves_the_file_and_hardly_moves_the_weights(
    kind, tiny_model, golden_file, tmp_path
):
    source, given = {
        "ours": (tiny_model, {}), "original": (golden_file, {"fusion": 0.5}),
    }[kind]  # fmt: skip
    target = tmp_path / "half.safetensors"
    convert(source, target, half=True, arguments=given)
    full, half = load_model(source, given), load_model(target)
    assert target.stat().st_size < 0.52 * source.stat().st_size
    assert half.arguments == full.arguments
    assert {weight.dtype for weight in half.parameters()} == {torch.float32}
    for name, weight in full.state_dict().items():
        tolerance = 2**-11 if weight.ndim > 1 else 0
        torch.testing.assert_close(half.state_dict()[name], weight, rtol=tolerance, atol=1e-7)


def test_a_checkpoint_of_half_size_stays_one_unless_told(tiny_model, tmp_path):
    half, still, full = (tmp_path / f"{name}.safetensors" for name in ("half", "still", "full"))
    convert(tiny_model, half, half=True)
    convert(half, still, threshold=0.4)
    convert(half, full, half=False, threshold=0.4)
    sizes = [path.stat().st_size for path in (half, still, full)]
    assert sizes[1] < 1.01 * sizes[0] < sizes[2]


def test_a_field_that_headers_do_not_have_is_refused(tiny_model, tmp_path):
    with pytest.raises(UnknownNameError, match=r"unknown field of a header 'score'.*scores"):
        save_model(tmp_path / "m.safetensors", load_model(tiny_model), score=[])
    assert not list(tmp_path.iterdir())


def test_weights_too_large_for_half_precision_are_refused(tmp_path):
    network = create_model("ctma-s")
    network.coarse_head.weight.data.fill_(1e5)
    with pytest.raises(CheckpointError, match=r"coarse_head\.weight: too large"):
        save_model(tmp_path / "m.safetensors", network, half=True)
    assert not list(tmp_path.iterdir())


def test_convert_replaces_nothing_unasked(tiny_model, tmp_path):
    target = tmp_path / "there.safetensors"
    target.write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"there\.safetensors: is there already"):
        convert(tiny_model, target, half=True)
    assert target.read_bytes() == b"mine"
    convert(tiny_model, target, half=True, overwrite=True)
    assert read_header(target).network == "ctma-s"


def test_a_network_of_other_size_goes_there_and_back(ctma, tmp_path):
    ours, released, back = (tmp_path / name for name in ("o.safetensors", "r.pth", "b.safetensors"))
    save_model(ours, create_model("snunet", width=8))
    assert "cannot hold width 8" in ctma("convert", ours, released).stderr
    ctma("convert", released, back, "--set", "width=8")
    assert load_model(back).fingerprint() == load_model(ours).fingerprint()
    assert load_model(back).arguments == {"width": 8}


def test_what_a_released_file_could_not_hold_is_given_back(golden_file, tmp_path, ctma):
    target = tmp_path / "back.safetensors"
    ctma("convert", golden_file, target, "--fusion", "0.67", "--threshold", "0.4",
         "--temperature", "1.3", "--offset", "-0.5", "--gsd", "0.5")  # fmt: skip
    usage = load_model(target).usage
    assert (usage.threshold, usage.temperature, usage.offset) == (0.4, 1.3, -0.5)
    assert usage.ground_sample_distance == 0.5
    wrong = ctma("convert", golden_file, tmp_path / "b.safetensors", "--fusion", "0.67",
                 "--temperature", "0", code=2)  # fmt: skip
    assert "--temperature 0.0: above 0" in wrong.stderr


def test_only_a_safetensors_is_written_and_usage_stands_in_the_network(tmp_path):
    network = create_model("ctma-s", video_len=2)
    with pytest.raises(CheckpointError, match=r"m\.pth: a checkpoint of ours is a \.safetensors"):
        save_model(tmp_path / "m.pth", network)
    with pytest.raises(SettingError, match="`threshold`: is part of the network's `usage`"):
        save_model(tmp_path / "m.safetensors", network, threshold=0.9)
    assert not list(tmp_path.iterdir())


def test_convert_writes_what_a_header_lacks(ctma, tiny_model, tmp_path):
    known = tmp_path / "known.safetensors"
    ctma("convert", tiny_model, known, "--gsd", "0.25")
    assert read_header(known).ground_sample_distance == 0.25
    found = load_model(known).state_dict()
    for name, weight in load_model(tiny_model).state_dict().items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=0)


def test_convert_refuses_what_it_cannot_do(tiny_model, tmp_path):
    with pytest.raises(CheckpointError, match=r"\.pth to a \.safetensors"):
        convert(tiny_model, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"values for its header, either to a \.safetensors"):
        convert(tiny_model, tmp_path / "other.pth", half=True)
    with pytest.raises(CheckpointError, match="would be overwritten"):
        convert(tiny_model, tiny_model, half=True)
    with pytest.raises(OutputError, match="cannot write"):
        save_model("/proc/nowhere/m.safetensors", create_model("ctma-s"))


@pytest.mark.parametrize(("name", "megabytes"), [("ctma-any", 8), ("ctma-lite", 8), ("ctma-s", 12)])
def test_a_shipped_checkpoint_is_taken_by_its_name(ctma, name, megabytes):
    assert shipped_models() == ["ctma-any", "ctma-lite", "ctma-s"]
    assert find_checkpoint(name).stat().st_size <= megabytes * 1e6
    header = json.loads(ctma("info", name, "--json").stdout)
    assert header["network"] == {"ctma-any": "ctma-lite"}.get(name, name)
    assert header["training_data"]["pairs"] > 0
    assert header["temperature"] != 1.0
    assert header["scores"]
    missing = ctma("info", "ctma-xl", code=2)
    assert "shipped by name: ctma-any, ctma-lite, ctma-s" in missing.stderr


@pytest.mark.slow
@pytest.mark.skipif(not FULL.exists(), reason="an sdist has no weights of the full network")
def test_the_full_networks_weights_beside_the_package_can_be_used(tmp_path):
    pytest.importorskip("openvino")
    for path, size in ((FULL, 20e6), (PAPER, 65e6)):
        assert path.stat().st_size <= size
        header = read_header(path)
        assert (header.network, header.ground_sample_distance) == ("ctma", 0.5)
    pair = [random_image(seed, size=107) for seed in (1, 2)]
    found, expected = (
        predict(*pair, load(FULL, engine=engine, precision="float32")).probability
        for engine in ("openvino", "eager")
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)
    convert(PAPER, tmp_path / "ctma.pth")
    back = load_model(tmp_path / "ctma.pth", read_header(PAPER).arguments).state_dict()
    for name, weight in load_model(PAPER).state_dict().items():
        assert torch.equal(weight, back[name]), name


def test_a_torch_file_with_turned_bits_is_refused(tmp_path, ctma):
    save_model(tmp_path / "m.safetensors", create_model("fc-ef"))
    ctma("convert", tmp_path / "m.safetensors", tmp_path / "w.pth")
    content = bytearray((tmp_path / "w.pth").read_bytes())
    content[len(content) // 2] ^= 4
    (tmp_path / "w.pth").write_bytes(content)
    line = ctma("convert", tmp_path / "w.pth", tmp_path / "back.safetensors", code=2).stderr
    assert "is damaged" in line
    assert not (tmp_path / "back.safetensors").exists()


@pytest.mark.parametrize("name", ["lunet", "bit", "snunet", "ctma"])
def test_the_optimizer_of_a_released_file_follows_the_names_of_the_weights(name, tmp_path):
    network = create_model(name)
    write_released(tmp_path / "m.pth", network)
    weights = [*read_released(tmp_path / "m.pth")["state_dict"].items()]
    parameters = dict(network.named_parameters())
    theirs = {network.released.rename(one): value for one, value in parameters.items()}
    # Another implementation registers its layers the other way round.
    order = [one for one, _ in reversed(weights) if one in theirs]
    state = {number: {"exp_avg": theirs[one]} for number, one in enumerate(order)}
    content = {"state_dict": dict(reversed(weights)), "optimizer": {"state": state}}
    found = sort_optimizer(content, network)["state"]
    assert all(found[number]["exp_avg"] is one for number, one in enumerate(parameters.values()))
    assert sort_optimizer({"state_dict": dict(weights)}, network) is None

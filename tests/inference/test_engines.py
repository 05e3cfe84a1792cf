"""Engines: the same masks whatever runs a network, and an honest choice among them."""

import json
import os
import pickle
import platform
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ctma import ChangeLogits, create_model, load_model, predict, prepare, read_header, save_model
from ctma.errors import CheckpointError, MissingExtraError, SettingError, UnknownNameError
from ctma.inference.engines import cache, choice
from ctma.models.base import ChangeNetwork
from support.commands import refused
from support.images import random_image
from support.network_tester import live_in

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")

ENGINES = ("exact", "openvino", "onnx")


@pytest.fixture(autouse=True)
def _own_choice_and_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("CTMA_ENGINE")
    monkeypatch.setenv("CTMA_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return live_in(create_model("ctma-lite", video_len=0))


@pytest.fixture
def multiplies_bf16(monkeypatch):
    """A processor that does."""
    monkeypatch.setattr(choice, "multiplies_bf16", lambda _: True)


def recorded(network, **agreement):
    network.provenance = {"agreement": {key.replace("_", " "): v for key, v in agreement.items()}}
    return network


def images(height=96, width=128, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(2)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [(96, 128), (75, 101)])
def test_every_engine_gives_the_probability_of_the_network(network, engine, size):
    pair = images(*size)
    expected = predict(*pair, network, engine="eager", precision="float32").probability
    found = predict(*pair, network, engine=engine, precision="float32").probability
    np.testing.assert_allclose(found, expected, atol=1e-5)


class Shared(ChangeNetwork):
    """Reads the weights of a wide convolution, which engines do otherwise."""

    bands = 3

    def __init__(self):
        super().__init__()
        self.spread = torch.nn.Conv2d(3, 256, 1)
        self.wide = torch.nn.Conv2d(256, 256, 3, padding=1)

    def forward(self, before, after):
        x = self.wide(self.spread(after)) - self.wide(self.spread(before))
        return ChangeLogits(F.conv2d(x, self.wide.weight[:1], padding=1))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [(64, 64), (65, 67)])
def test_wide_convolutions_are_what_they_were(engine, size):
    torch.manual_seed(0)
    network = Shared().eval()
    pair = images(*size)
    expected = predict(*pair, network, engine="eager", precision="float32").probability
    found = predict(*pair, network, engine=engine, precision="float32").probability
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_views_look_through_an_engine(network):
    pair = images()
    options = {"tta": True, "protocol": "sliding"}
    expected = predict(*pair, network, engine="eager", **options).probability
    found = predict(*pair, network, engine="openvino", precision="float32", **options).probability
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_where_nothing_is_recorded_the_fastest_engine_computes_in_float32(network, multiplies_bf16):
    found = choice.choose(recorded(network))
    assert found[:2] == ("openvino", "float32")
    assert "ctma calibrate" in found.why


def test_what_is_recorded_to_agree_is_taken(network, multiplies_bf16):
    found = choice.choose(recorded(network, openvino_bf16=0.9995))
    assert found == ("openvino", "bf16", "agrees with float32 on 99.95 % of val")
    assert choice.choose(recorded(network, openvino_bf16=0.9985)).precision == "float32"
    assert choice.choose(recorded(network, exact_bf16=0.9995))[:2] == ("exact", "bf16")
    assert choice.choose(network, "onnx")[:2] == ("onnx", "float32")
    assert choice.choose(network, precision="float32")[:2] == ("openvino", "float32")
    assert choice.choose(network, precision="bf16")[:2] == ("openvino", "bf16")


def test_what_is_recorded_is_not_taken_where_the_processor_does_not_multiply_it(
    network, monkeypatch
):
    monkeypatch.setattr(choice, "multiplies_bf16", lambda _: False)
    found = choice.choose(recorded(network, openvino_bf16=1.0))
    assert found == ("openvino", "float32", "this processor does not multiply bf16")


def test_an_environment_may_say_what_auto_takes(network, monkeypatch):
    monkeypatch.setenv("CTMA_ENGINE", "exact")
    assert choice.choose(recorded(network))[:2] == ("exact", "float32")
    assert choice.choose(network, "onnx").engine == "onnx"
    monkeypatch.setenv("CTMA_ENGINE", "exakt")
    with pytest.raises(UnknownNameError, match="engine in CTMA_ENGINE 'exakt': did you mean exact"):
        choice.choose(network)


@pytest.mark.parametrize("engine", ["eager", "exact", "openvino", "onnx", "auto"])
def test_weights_that_are_no_numbers_are_said_to_be(engine):
    network = create_model("ctma-lite", video_len=0).eval()
    torch.nn.init.constant_(next(network.parameters()), torch.nan)
    before, after = (random_image(seed, 64) for seed in (1, 2))
    with pytest.raises(CheckpointError, match="gives values that are no numbers"):
        predict(before, after, network, engine=engine)


def test_engines_that_are_not_installed_are_named_never_replaced(network, monkeypatch):
    monkeypatch.setattr(choice, "find_spec", lambda package: None)
    assert choice.choose(recorded(network)).engine == "exact"
    with pytest.raises(MissingExtraError, match=r"openvino is not installed.*ctma\[openvino\]"):
        prepare(network, "openvino")
    with pytest.raises(MissingExtraError, match=r"onnxruntime is not installed.*ctma\[onnx\]"):
        prepare(network, "onnx")


def test_what_an_engine_cannot_do_is_refused(network):
    with pytest.raises(SettingError, match="engine onnx computes in float32, not in bf16"):
        prepare(network, "onnx", "bf16")
    for engine in ("auto", "openvino"):
        with pytest.raises(SettingError, match="needs a model that ctma quantize wrote"):
            prepare(network, engine, "int8")
    with pytest.raises(UnknownNameError, match="did you mean openvino"):
        prepare(network, "openvio")
    with pytest.raises(SettingError, match="was prepared as onnx in float32, not as exact"):
        prepare(prepare(network, "onnx"), "exact")


def test_former_names_of_precisions_are_still_taken(network):
    assert prepare(network, "exact", "32-true").precision == "float32"
    assert prepare(network, "exact", "bf16-mixed").precision == "bf16"


def test_a_network_is_prepared_once_and_again_where_its_weights_change():
    network = live_in(create_model("ctma-lite", video_len=0))
    first = prepare(network, "openvino", "float32")
    assert prepare(network, "openvino", "float32") is first
    assert prepare(first) is first
    pair = images()
    before = predict(*pair, network, engine="openvino", precision="float32").probability
    with torch.no_grad():
        network.coarse_head.weight.add_(1)
        network.unmasked_decoder.out.bias.add_(1)
    after = predict(*pair, network, engine="openvino", precision="float32").probability
    expected = predict(*pair, network, engine="eager", precision="float32").probability
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, expected, atol=1e-5)


def graphs():
    return sorted(cache.folder().glob("*.graph"))


def prepared_anew(network, engine):
    """The probability of an engine that takes what is on disk, not what it holds."""
    choice._LAST.clear()
    return predict(*images(), network, engine=engine, precision="float32").probability


@pytest.mark.parametrize(("engine", "count"), [("onnx", 1), ("openvino", 2)])
def test_what_was_prepared_is_kept_and_made_anew_where_damaged(network, engine, count):
    expected = prepared_anew(network, engine)
    kept = graphs()
    assert len(kept) == count
    np.testing.assert_array_equal(prepared_anew(network, engine), expected)
    for file in kept:
        whole = file.read_bytes()
        file.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    np.testing.assert_array_equal(prepared_anew(network, engine), expected)
    assert all(cache.read(file.stem) for file in graphs())
    assert graphs() == kept


def test_what_a_former_engine_keeps_is_not_taken_for_newer_weights():
    network = live_in(create_model("ctma-lite", video_len=0))
    former = prepare(network, "openvino", "float32")
    with torch.no_grad():
        network.unmasked_decoder.out.bias.add_(1)
    pair = images()
    predict(*pair, former)
    choice._LAST.clear()
    found = predict(*pair, network, engine="openvino", precision="float32").probability
    expected = predict(*pair, network, engine="eager", precision="float32").probability
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_nothing_is_kept_where_nobody_wants_it(ctma, tiny_model, tiny_data, pair, tmp_path):
    ctma("predict", *pair, "-c", tiny_model, "-o", tmp_path / "out", "--engine", "onnx",
         "--no-cache")  # fmt: skip
    ctma("eval", tiny_model, "--data", tiny_data, "--engine", "onnx", "--no-cache", "-o",
         tmp_path / "scores.json")  # fmt: skip
    assert graphs() == []


def test_a_cache_that_cannot_be_written_stops_nobody(network, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CTMA_CACHE", str(tmp_path / "file"))
    choice._LAST.clear()
    assert predict(*images(), network, engine="onnx").mask.shape == (96, 128)


def test_the_cache_forgets_what_was_not_used_for_the_longest_time(monkeypatch):
    monkeypatch.setattr(cache, "MOST_BYTES", 2500)
    for number, name in enumerate("abc"):
        cache.write(name, bytes(1000))
        os.utime(cache.folder() / f"{name}.graph", (number, number))
    assert cache.read("a") is None or len(graphs()) == 3
    cache.write("d", bytes(1000))
    assert [path.stem for path in graphs()] == ["c", "d"]


def test_the_command_line_says_what_runs_and_why(ctma, tiny_model, pair, tmp_path):
    result = ctma("predict", *pair, "-c", tiny_model, "-o", tmp_path / "out")
    assert "engine openvino, float32: " in result.stdout
    result = ctma("predict", *pair, "-c", tiny_model, "-o", tmp_path / "out", "--engine", "exact",
                  "--precision", "bf16")  # fmt: skip
    assert "engine exact, bf16\n" in result.stdout
    command = ("predict", *pair, "-c", tiny_model, "-o", tmp_path / "o", "--engine", "fast")
    refused(ctma, "unknown engine 'fast'", *command)


def test_calibration_records_what_agrees(ctma, tiny_model, tiny_data, tmp_path, multiplies_bf16):
    output = tmp_path / "calibrated.safetensors"
    said = ctma("calibrate", tiny_model, "--data", tiny_data, "-o", output).stdout
    agreement = read_header(output).agreement
    assert agreement.keys() == {"openvino bf16", "exact bf16"}
    assert all(0.9 < share <= 1 for share in agreement.values())
    assert "openvino bf16: the mask of float32 on " in said
    assert load_model(output).provenance["agreement"] == agreement
    copy = tmp_path / "copy.safetensors"
    save_model(copy, load_model(output))
    assert read_header(copy).agreement == agreement


def test_a_score_says_what_ran_the_network(ctma, tiny_model, tiny_data, tmp_path):
    ctma("eval", tiny_model, "--data", tiny_data, "-o", tmp_path / "s.json", "--engine", "onnx")
    record = json.loads(Path(tmp_path / "s.json").read_text())
    assert (record["engine"], record["arithmetic"]) == ("onnx", "float32")


def test_where_the_fastest_cannot_take_a_network_auto_takes_the_next_and_says_so(monkeypatch):
    network = live_in(create_model("ctma-lite", video_len=0))

    def refuse(*_):
        raise RuntimeError("no such operator")

    monkeypatch.setattr("ctma.inference.engines.graph.trace", refuse)
    found = prepare(network)
    assert found.engine == "exact"
    assert "engine openvino: cannot take CTMALite (no such operator)" in found.why
    with pytest.raises(SettingError, match="engine openvino: cannot take CTMALite"):
        prepare(network, "openvino")


def test_a_network_that_learns_is_prepared_as_it_predicts(network):
    network.train()
    prepared = prepare(network, "exact", "float32")
    pair = images()
    np.testing.assert_allclose(
        predict(*pair, prepared).probability,
        predict(*pair, network.eval(), engine="eager").probability,
        atol=1e-5,
    )


def test_numbers_set_on_a_network_are_not_overlooked():
    network = live_in(create_model("ctma-lite", video_len=0))
    pair = images()
    first = predict(*pair, network, engine="exact").probability
    network.fusion = 0.9
    again = predict(*pair, network, engine="exact").probability
    expected = predict(*pair, network, engine="eager").probability
    np.testing.assert_allclose(again, expected, atol=1e-5)
    assert np.abs(again - first).max() > 0


def test_what_openvino_refuses_of_the_cache_is_compiled_anew(network):
    expected, before = prepared_anew(network, "openvino"), graphs()
    for file in before:
        if not cache.read(file.stem).startswith(b"\x08"):  # what ONNX begins with
            cache.write(file.stem, b"of another build")
    np.testing.assert_array_equal(prepared_anew(network, "openvino"), expected)
    assert all(cache.read(file.stem) != b"of another build" for file in before)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is another")
def test_the_exact_engine_keeps_its_memory_from_pair_to_pair_where_told(network, monkeypatch):
    import resource

    monkeypatch.setenv("CTMA_KEEP_MEMORY", "1")
    engine, pair, taken = prepare(network, "exact", "float32"), torch.rand(2, 1, 3, 512, 512), []
    for _ in range(4):
        taken.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
        engine(*pair)
    first, *_, last = np.diff(taken)
    assert last < first / 10


def test_errors_come_whole_from_other_processes():
    for error in (MissingExtraError("openvino", "openvino"), UnknownNameError("engine", "x", "ab")):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy)) == (type(error), str(error))

"""Engines: the same masks whatever runs a network, and an honest choice among them."""

import gc
import json
import os
import pickle
import platform
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ctma import (
    ChangeLogits,
    create_model,
    evaluate,
    list_engines,
    load,
    load_model,
    plugins,
    predict,
    read_header,
    save_model,
)
from ctma.engines import cache, choice
from ctma.engines import engine as engines
from ctma.engines.eager import Eager
from ctma.engines.forms import JOINED, REWRITTEN
from ctma.engines.graphs import find_source
from ctma.engines.openvino import OpenVino
from ctma.errors import CheckpointError, MissingExtraError, SettingError, UnknownNameError
from ctma.models.base import ChangeNetwork
from support.commands import refused
from support.images import random_image
from support.network_tester import live_in
from support.running import run_as
from support.scenes import predict_scene, smooth, write_raster

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


def write_pair(folder):
    return [
        write_raster(folder / f"{name}.tif", smooth(seed, 96, 128))
        for seed, name in enumerate(("before", "after"))
    ]


def images(height=96, width=128, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(2)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [(96, 128), (75, 101)])
def test_every_engine_gives_the_probability_of_the_network(network, engine, size):
    pair = images(*size)
    expected = predict(*pair, run_as(network, engine="eager", precision="float32")).probability
    found = predict(*pair, run_as(network, engine=engine, precision="float32")).probability
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


class OfTheBatch(ChangeNetwork):
    """A norm that keeps no statistics, so that nothing can be folded."""

    bands = 3

    def __init__(self):
        super().__init__()
        norm = torch.nn.BatchNorm2d(1, track_running_stats=False)
        self.steps = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 3, padding=1), norm)

    def forward(self, before, after):
        return ChangeLogits(self.steps(after - before))


@pytest.mark.parametrize("engine", ENGINES)
def test_norms_of_the_batch_stay_as_they_are(engine):
    torch.manual_seed(0)
    network = OfTheBatch().eval()
    with torch.no_grad():
        dates = [torch.from_numpy(one).permute(2, 0, 1)[None] / 255 for one in images(64, 64)]
        expected = network(*dates).fine.sigmoid()[0, 0].numpy()
    if engine in ("openvino", "onnx"):  # torch's exporter knows no such norm
        with pytest.raises(SettingError, match="cannot take OfTheBatch"):
            predict(*images(64, 64), run_as(network, engine=engine))
        return
    found = predict(*images(64, 64), run_as(network, engine=engine, precision="float32"))
    np.testing.assert_allclose(found.probability, expected, atol=1e-4)


def test_a_network_without_a_file_runs_without_the_cache(monkeypatch):
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    space = {"__name__": "__main__"}
    text = Path(__file__).read_text()
    start = text.index("class Shared")
    code = "import torch, torch.nn.functional as F\nfrom ctma import ChangeLogits, ChangeNetwork\n"
    exec(code + text[start : text.index("class OfTheBatch")], space)
    network = space["Shared"]().eval()
    assert find_source(network) is None
    assert predict(*images(64, 64), network).probability.shape == (64, 64)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [(64, 64), (65, 67)])
def test_wide_convolutions_are_what_they_were(engine, size):
    torch.manual_seed(0)
    network = Shared().eval()
    pair = images(*size)
    expected = predict(*pair, run_as(network, engine="eager", precision="float32")).probability
    found = predict(*pair, run_as(network, engine=engine, precision="float32")).probability
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_views_look_through_an_engine(network):
    pair = images()
    expected = predict(*pair, run_as(network, "eager", tta=True), protocol="sliding").probability
    other = run_as(network, "openvino", "float32", tta=True)
    found = predict(*pair, other, protocol="sliding").probability
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("units", "form"), [(["avx512_bf16"], REWRITTEN), (["avx512_bf16", "amx_bf16"], JOINED)]
)
def test_joins_stay_whole_in_bf16_where_the_processor_has_amx(monkeypatch, network, units, form):
    monkeypatch.setattr(OpenVino, "units", lambda _: units)
    pair = images(128, 128)
    predictor = run_as(network, "openvino", "bf16", cache=False)
    assert predictor.computing.form_for((1, 3, 128, 128)) == form
    expected = predict(*pair, run_as(network, "eager", "float32")).probability
    np.testing.assert_allclose(predict(*pair, predictor).probability, expected, atol=0.02)


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
        predict(before, after, run_as(network, engine))


def test_engines_that_are_not_installed_are_named_never_replaced(network, monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda package: None)
    assert choice.choose(recorded(network)).engine == "exact"
    with pytest.raises(MissingExtraError, match=r"openvino is not installed.*ctma\[openvino\]"):
        choice.choose(network, "openvino")
    with pytest.raises(MissingExtraError, match=r"onnxruntime is not installed.*ctma\[onnx\]"):
        choice.choose(network, "onnx")


def test_what_an_engine_cannot_do_is_refused(network):
    with pytest.raises(SettingError, match="engine onnx computes in float32, not in bf16"):
        choice.choose(network, "onnx", "bf16")
    for engine in ("auto", "openvino"):
        with pytest.raises(SettingError, match="needs a model that ctma quantize wrote"):
            choice.choose(network, engine, "int8")
    with pytest.raises(UnknownNameError, match="did you mean openvino"):
        run_as(network, "openvio")
    for former in ("32-true", "bf16-mixed"):
        with pytest.raises(UnknownNameError, match="precision"):
            run_as(network, "exact", former)


class Counting(Eager):
    """Counts how often a network is prepared."""

    name = "counting"
    prepared = 0

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        Counting.prepared += 1


@pytest.fixture
def counting(monkeypatch):
    monkeypatch.setitem(plugins._registered[plugins.ENGINES], "counting", Counting)
    monkeypatch.setattr(Counting, "prepared", 0)


def test_two_predictors_in_turn_prepare_each_once(network, counting, tiny_data):
    predictors = [run_as(network, "counting", "float32") for _ in range(2)]
    assert Counting.prepared == 0, "only when it is needed"
    for _ in range(3):
        for predictor in predictors:
            predict(*images(), predictor)
            evaluate(predictor, tiny_data, "val")
    assert Counting.prepared == 2
    assert {predictor.describe()["engine"] for predictor in predictors} == {"counting"}


def test_weights_are_hashed_once_a_load(tiny_model, tiny_data, monkeypatch, tmp_path):
    pytest.importorskip("rasterio")
    pair = write_pair(tmp_path)
    predict(*images(), load(tiny_model, engine="onnx"))  # keeps its graphs
    predict_scene(*pair, load(tiny_model, engine="onnx"), tmp_path / "first")
    hashed = []
    whole = ChangeNetwork.fingerprint
    monkeypatch.setattr(ChangeNetwork, "fingerprint", lambda one: hashed.append(1) or whole(one))
    predictor = load(tiny_model, engine="onnx")
    for number in range(2):
        predict(*images(), predictor)
        evaluate(predictor, tiny_data, "val", output=tmp_path / f"{number}.json")
        predict_scene(*pair, predictor, tmp_path / f"map-{number}")
    assert len(hashed) == 1


@pytest.mark.parametrize("engine", ["eager", "exact", "openvino", "onnx"])
def test_a_predictor_that_is_dropped_frees_its_network(engine):
    predictor = run_as(live_in(create_model("ctma-lite", video_len=0)), engine, "float32")
    predict(*images(), predictor)
    network = weakref.ref(predictor.network)
    del predictor
    gc.collect()
    assert network() is None


def test_a_network_in_memory_predicts_with_the_weights_that_it_has():
    network = live_in(create_model("ctma-lite", video_len=0))
    pair = images()
    before = predict(*pair, run_as(network, "openvino", "float32")).probability
    with torch.no_grad():
        network.coarse_head.weight.add_(1)
        network.unmasked_decoder.out.bias.add_(1)
    after = predict(*pair, run_as(network, "openvino", "float32")).probability
    expected = predict(*pair, run_as(network, "eager")).probability
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, expected, atol=1e-5)


def test_a_checkpoint_by_name_is_a_model_too(tiny_model):
    expected = predict(*images(), load(tiny_model)).probability
    for model in (tiny_model, str(tiny_model), load_model(tiny_model)):
        np.testing.assert_array_equal(predict(*images(), model).probability, expected)


def graphs():
    return sorted(cache.folder().glob("*.graph"))


def prepared_anew(network, engine):
    """The probability of an engine that takes what is on disk, not what it holds."""
    return predict(*images(), run_as(network, engine, "float32")).probability


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
    former = run_as(network, "openvino", "float32")
    assert former.engine == "openvino"
    with torch.no_grad():
        network.unmasked_decoder.out.bias.add_(1)
    pair = images(75, 101)
    predict(*pair, former)
    found = predict(*pair, run_as(network, "openvino", "float32")).probability
    expected = predict(*pair, run_as(network, "eager")).probability
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
    assert predict(*images(), run_as(network, engine="onnx")).mask.shape == (96, 128)


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

    monkeypatch.setattr("ctma.engines.graphs.trace", refuse)
    predictor = run_as(network)
    assert predictor.engine == "exact"
    assert "engine openvino: cannot take CTMALite (no such operator)" in predictor.why
    with pytest.raises(SettingError, match="engine openvino: cannot take CTMALite"):
        predict(*images(), run_as(network, "openvino"))


def test_a_network_that_learns_is_prepared_as_it_predicts(network):
    network.train()
    predictor = run_as(network, "exact", "float32")
    pair = images()
    found = predict(*pair, predictor).probability
    assert network.training
    expected = predict(*pair, run_as(network.eval(), "eager")).probability
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_numbers_set_on_a_network_are_not_overlooked():
    network = live_in(create_model("ctma-lite", video_len=0))
    pair = images()
    first = predict(*pair, run_as(network, engine="exact")).probability
    network.fusion = 0.9
    again = predict(*pair, run_as(network, engine="exact")).probability
    expected = predict(*pair, run_as(network, engine="eager")).probability
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
    engine, pair, taken = (
        run_as(network, "exact", "float32").prepared,
        torch.rand(2, 1, 3, 512, 512),
        [],
    )
    for _ in range(4):
        taken.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
        engine(*pair)
    first, *_, last = np.diff(taken)
    assert last < first / 10


def test_errors_come_whole_from_other_processes():
    for error in (MissingExtraError("openvino", "openvino"), UnknownNameError("engine", "x", "ab")):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy)) == (type(error), str(error))


def test_every_engine_says_what_it_is(ctma):
    told = {one["name"]: one for one in list_engines()}
    assert [*told] == ["eager", "exact", "compile", "openvino", "onnx"]
    assert all(
        engine["summary"] and engine["precisions"][0] == "float32" for engine in told.values()
    )
    assert told["onnx"]["devices"] == ["cpu"]
    assert told["openvino"]["packages"] == ["openvino", "onnx"]
    assert json.loads(ctma("engines", "--json").stdout) == [*told.values()]
    listed = ctma("engines").stdout
    assert all(name in listed for name in told)
    assert all(name in ctma("predict", "--help").stdout for name in told)


TOGETHER = """
import os, sys, threading, torch, ctma

predictor = ctma.load("ctma-lite", engine="openvino", precision="float32")
image, gate = torch.zeros(1, 3, 64, 64), threading.Barrier(4)
sys.setswitchinterval(1e-6)
with predictor.looking(1.0, 4) as network:
    def look():
        gate.wait()
        network(image, image)
    threads = [threading.Thread(target=look, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    os._exit(sum(thread.is_alive() for thread in threads))
"""


@pytest.mark.slow
def test_threads_that_begin_together_do_not_wait_for_each_other():
    done = subprocess.run([sys.executable, "-c", TOGETHER], check=False)
    assert done.returncode == 0, "threads still wait for each other"

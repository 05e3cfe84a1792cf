"""Times of engines, and models in 8 bits."""

import json
import shutil

import pytest
import torch

from ctma import Predictor, bench, create_model, load, save_model
from ctma.errors import SettingError
from ctma.evaluation import quantization
from ctma.evaluation.metrics import Scores
from support.commands import refused

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")


@pytest.mark.slow
@pytest.mark.long
def test_engines_are_timed_each_in_a_process_of_its_own(ctma, tiny_model, tiny_data, tmp_path):
    exported = tmp_path / "m.onnx"
    ctma("export", tiny_model, "-o", exported)
    command = ("bench", "--model", tiny_model, "--model", exported, "--size", "64",
               "--engine", "exact,openvino", "--rounds", "2", "--data", tiny_data)  # fmt: skip
    found = json.loads(ctma(*command, "--json").stdout)
    assert found["processor"]["threads"] == torch.get_num_threads()
    ways = [(row["engine"], row["precision"]) for row in found["timings"]]
    assert ways == [
        ("eager", "float32"), ("exact", "float32"), ("exact", "bf16"),
        ("openvino", "float32"), ("openvino", "bf16"), ("onnx", "float32"),
    ]  # fmt: skip
    eager, exact, *_, last = found["timings"]
    assert eager["ratio"] == eager["ratio_to_first"] == eager["agreement"] == 1
    assert exact["logit_difference"] < 1e-4
    assert exact["gmac"] < eager["gmac"]
    assert (last["ratio"], last["agreement"], last["gmac"]) == (None, 1, None)
    assert min(row["milliseconds"] for row in found["timings"]) > 0
    shown = ctma("bench", "--model", exported, "--size", "64", "--rounds", "1").stdout
    assert "onnx" in shown
    assert "threads" in shown


def test_a_predictor_is_timed_by_its_file(tiny_model):
    predictor = load(tiny_model)
    (timing,) = bench(predictor, [64], ["eager"], rounds=1)[:1]
    assert (timing.model, timing.engine) == (str(tiny_model), "eager")
    with pytest.raises(SettingError, match="no file"):
        bench([predictor, Predictor(predictor.network)])


def test_what_cannot_be_timed_is_one_line(ctma, tiny_model, tiny_data):
    command = ("bench", "--model", tiny_model, "--engine", "exact")
    refused(ctma, "--size x: expected numbers", *command, "--size", "x")
    refused(ctma, "pairs smaller than 512", *command, "--size", "512", "--data", tiny_data)
    refused(ctma, "unknown engine 'exakt'", "bench", "--engine", "exakt")
    refused(ctma, "--size 32: networks take 64 pixels and more", *command, "--size", "32")


@pytest.fixture(scope="module")
def quantisable(tmp_path_factory):
    """A checkpoint with few layers."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "few.safetensors"
    save_model(path, create_model("fc-siam-diff"))
    return path


@pytest.mark.slow
def test_a_model_in_8_bits_says_what_it_lost_and_runs(ctma, quantisable, tiny_data, pair, tmp_path):
    pytest.importorskip("nncf")
    output = tmp_path / "m.xml"
    command = ("quantize", quantisable, "--data", tiny_data, "-o", output, "--most", "100")
    run = ctma(*command, "--json")
    found = json.loads(run.stdout)
    assert "warning" not in run.stderr
    told = json.loads(ctma("info", output, "--json").stdout)
    assert (told["precision"], load(output).precision) == ("int8", "int8")
    assert told["scores"]["f1_int8"] == found["f1_after"]
    assert told["scores"]["split"] == "val"
    said = ctma("predict", *pair, "-c", output, "-o", tmp_path / "out").stdout
    assert "engine openvino, int8" in said
    refused(ctma, "is there already", *command)


def test_scales_are_not_taken_from_the_pairs_that_judge_them(
    ctma, quantisable, tiny_data, tmp_path
):
    pytest.importorskip("nncf")
    for split in ("train", "val"):
        shutil.copytree(tiny_data / "val", tmp_path / "data" / split)
    command = ("quantize", quantisable, "--data", tmp_path / "data", "-o", tmp_path / "m.xml")
    refused(ctma, "val_0000 of val is val_0000 of train", *command)


def test_what_loses_too_much_in_8_bits_is_not_written(
    ctma, quantisable, tiny_data, tmp_path, monkeypatch
):
    pytest.importorskip("nncf")
    scores = iter([Scores(80, 20, 20, 0), Scores(79, 20, 21, 0)])
    monkeypatch.setattr(quantization, "score_pairs", lambda *_: next(scores))
    monkeypatch.setattr(quantization, "load", lambda _: None)
    monkeypatch.setattr(quantization, "save_openvino", lambda *_: None)
    monkeypatch.setattr(quantization, "quantise", lambda *_: None)
    command = ("quantize", quantisable, "--data", tiny_data, "-o", tmp_path / "m.xml")
    refused(ctma, "80.00 in float32, 79.40 in 8 bits, which is more than --most 0.2", *command)
    assert list(tmp_path.iterdir()) == []
    refused(ctma, "is OpenVINO's, an .xml", *command[:-1], tmp_path / "m.onnx")

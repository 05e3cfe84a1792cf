"""Metrics, and scores taken by a protocol."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional import classification as functional

from ctma import (
    Predictor,
    Running,
    Scoring,
    calibrate,
    create_model,
    evaluate,
    load_model,
    read_header,
    save_model,
)
from ctma.data.readers import find_pairs
from ctma.errors import SettingError, UnknownNameError
from ctma.evaluation.metrics import ConfusionMatrix, Scores
from ctma.evaluation.records import HowScored
from ctma.evaluation.scoring import score_pairs
from support.networks import MeanDifference


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


def test_a_score_is_not_taken_in_a_way_that_does_not_exist():
    with pytest.raises(UnknownNameError, match=r"slidin.*sliding"):
        Scoring(protocol="slidin")
    with pytest.raises(UnknownNameError, match=r"bf15.*bf16"):
        Running(precision="bf15")
    with pytest.raises(UnknownNameError, match=r"openvin.*openvino"):
        Running(engine="openvin")
    with pytest.raises(SettingError, match=r"`threshold` 1\.5"):
        Scoring(threshold=1.5)
    with pytest.raises(SettingError, match="`ground_sample_distance` -1"):
        Scoring(ground_sample_distance=-1)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_scores_do_not_depend_on_the_batch(tiny_data, batch_size):
    pairs = find_pairs(tiny_data, "val")
    judged = []
    scoring = Scoring(batch_size=batch_size)
    scores = score_pairs(Predictor(MeanDifference()), pairs, scoring, on_pair=judged.append)
    assert scores == score_pairs(Predictor(MeanDifference()), pairs)
    assert [one.pair for one in judged] == pairs
    found = sum(int((one.mask & one.change).sum()) for one in judged)
    assert found == scores.true_positive


@pytest.mark.slow
def test_scores_of_averaged_views_say_so(ctma, tiny_model, tiny_data, tmp_path):
    model = shutil.copy(tiny_model, tmp_path)
    counts = []
    for options in ([], ["--tta"]):
        command = ["eval", model, "--data", tiny_data, "--split", "val", "--threshold", "0.484"]
        record = json.loads(ctma(*command, "--json", *options).stdout)
        assert record["tta"] == bool(options)
        assert record["views"] == ([0.8, 1.25, 1.25, 0.8] if options else [1.0])
        counts.append((record["true_positive"], record["false_positive"]))
    assert counts[0] != counts[1]
    names = {path.name for path in tmp_path.glob("scores-*")}
    assert names == {f"scores-tiny-tiny-val-crops-0.484{views}.json" for views in ("", "-tta")}
    former = {name: value for name, value in record.items() if name != "views"}
    (tmp_path / "former.json").write_text(json.dumps(former))
    line = ctma("compare", tmp_path / "former.json", *tmp_path.glob("*-tta.json")).stderr
    assert "differ in views ([0.8, 1.25, 1.25, 0.8], [1.0, 1.0, 1.0, 1.0])" in line


def test_records_from_before_views_were_told_stand_for_the_views_of_then():
    how = {
        "network": "n", "data_name": "d", "data": "f", "pairs": 1, "labels": "0/1", "split": "val",
        "protocol": "crops", "threshold": 0.5, "arithmetic": "float32", "engine": "eager",
    }  # fmt: skip
    assert HowScored(**how).views == HowScored(**how, tta=False).views == (1.0,)
    assert HowScored(**how, tta=True).views == (1.0, 1.0, 1.0, 1.0)
    assert HowScored(**how, tta=True, views=(0.8, 1.25)).views == (0.8, 1.25)


@pytest.mark.slow
def test_with_their_distance_given_images_are_scored_as_the_network_knows_them(
    ctma, tiny_data, tmp_path
):
    torch.manual_seed(0)
    model = tmp_path / "model.safetensors"
    network = create_model("ctma-s", video_len=2)
    network.usage = network.usage.replace(ground_sample_distance=0.5, threshold=0.484)
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
    assert names == {f"scores-model-tiny-val-crops{ending}.json" for ending in ("", "-0.5m", "-1m")}
    assert "expect little" in ctma(*command, "--gsd", "5").stderr
    refused = ctma(*command, "--gsd", "0", code=2)
    assert "--gsd 0" in refused.stderr


HOW = {
    "network", "arguments", "checkpoint_name", "checkpoint", "data_name", "data", "pairs", "labels",
    "split", "protocol", "threshold", "tta", "views", "ground_sample_distance", "enlargement",
    "arithmetic", "engine", "ctma_version", "date",
}  # fmt: skip


def test_every_score_says_how_it_was_taken(tiny_model, tiny_data, tmp_path):
    checkpoint = shutil.copy(tiny_model, tmp_path / "model.safetensors")
    record = evaluate(checkpoint, tiny_data, "val", Scoring(protocol="whole")).record
    kept = json.loads((tmp_path / "scores-model-tiny-val-whole.json").read_text())
    assert kept == record.as_dict()
    assert kept.keys() - HOW == Scores(0, 0, 0, 1).as_dict().keys()
    how = record.how
    assert (how.network, how.arguments) == ("ctma-s", {"video_len": 2})
    assert (how.checkpoint_name, how.data_name) == ("model.safetensors", "tiny")
    assert (how.pairs, how.labels, how.engine) == (5, "0/255", "eager")
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", how.date)
    calibrate(checkpoint, tiny_data, tmp_path / "c.safetensors")
    calibration = read_header(tmp_path / "c.safetensors").calibration
    assert calibration.keys() - HOW == {
        "error_before", "error_by_temperature", "error_after", "f1_before", "f1_after",
        "error_of_objects_before", "error_of_objects_after",
    }  # fmt: skip
    assert (calibration["checkpoint"], calibration["data"]) == (how.checkpoint, how.data)


def test_networks_in_memory_are_scored_and_calibrated(tiny_model, tiny_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = load_model(tiny_model)
    usage = network.usage
    found = evaluate(network, tiny_data, "val")
    assert (
        found.record.scores
        == evaluate(tiny_model, tiny_data, "val", output=tmp_path / "s.json").record.scores
    )
    assert (found.record.how.checkpoint_name, found.files) == (None, [])
    calibration = calibrate(network, tiny_data, tmp_path / "c.safetensors")
    assert read_header(tmp_path / "c.safetensors").temperature == calibration.temperature
    assert network.usage == usage, "the network is left as it was"
    assert {path.name for path in tmp_path.iterdir()} == {"s.json", "c.safetensors"}


def test_folders_and_files_may_be_texts(tiny_model, tiny_data, tmp_path):
    names = {name: str(tmp_path / name) for name in ("save_masks", "figures")}
    result = evaluate(
        str(tiny_model), str(tiny_data), "val", output=str(tmp_path / "s.json"), **names
    )
    assert [path.exists() for path in result.files] == [True] * 4
    assert len(list((tmp_path / "save_masks").iterdir())) == 5

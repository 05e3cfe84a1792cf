"""Long work speaks where no bar can be seen: in a pipe, or a file."""

import json
import re
import time

import pytest

from ctma.cli import output
from ctma.training import logs


def test_where_there_is_no_terminal_progress_is_lines_though_nothing_is_told(monkeypatch, capsys):
    monkeypatch.setattr(output, "LINE_SECONDS", 0.05)
    with output.progress("Looking") as on_progress:
        time.sleep(0.2)
        on_progress(3, 7)
        time.sleep(0.2)
    lines = capsys.readouterr().err.splitlines()
    assert "Looking, 0 minutes so far" in lines
    assert "Looking, 3 of 7, 0 minutes so far" in lines


def test_short_work_says_nothing(ctma, pair, tiny_model, tmp_path):
    result = ctma("predict", *pair, "-c", tiny_model, "-o", tmp_path / "out")
    assert "so far" not in result.stderr


def test_a_training_says_each_epoch_and_between_where_it_is(ctma, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "LINE_SECONDS", 0)
    settings = ("trainer.epochs=2", "data.crop_size=64", "data.batch_size=4", "data.workers=0")
    changes = [part for setting in settings for part in ("--set", setting)]
    result = ctma("train", "levir-cd/fc-ef", "--data", tiny_data, "-o", tmp_path / "r", *changes)
    for epoch in (1, 2):
        assert re.search(rf"epoch {epoch}/2 step 1/4, loss \d", result.stdout)
        assert re.search(
            rf"epoch {epoch}/2 done, loss \d\.\d+, val F1 0\.\d+, \d+% of the time waited for data",
            result.stdout,
        )


def read_events(stderr):
    return [json.loads(line) for line in stderr.splitlines()]


def test_progress_and_errors_are_events_where_asked_for(ctma, tiny_data, tiny_model, tmp_path):
    folders = [tiny_data / "test" / date for date in "AB"]
    arguments = ("predict", *folders, "-c", tiny_model, "-o", tmp_path / "out")
    seen = read_events(ctma(*arguments, "--progress", "json").stderr)
    steps = [one for one in seen if one["event"] == "progress"]
    assert [steps[0]["done"], steps[-1]["done"], steps[-1]["total"]] == [0, 4, 4]
    assert {one["what"] for one in steps} == {"Predicting"}
    (error,) = read_events(
        ctma("--progress=json", "predict", tmp_path / "no", tmp_path, "-o", tmp_path, code=2).stderr
    )
    assert error == {"event": "error", "text": f"{tmp_path}/no: no such file or folder"}
    line = ctma("--progress", "loud", "info", tiny_model, code=2).stderr
    assert "--progress loud: expected bar or json" in line


@pytest.mark.slow
def test_a_training_reports_its_steps_as_events(ctma_alone, tiny_data, tmp_path):
    run = ctma_alone(
        "train", "levir-cd/ctma-s", "--data", tiny_data, "-o", tmp_path / "run", "--device", "cpu",
        *(f"--set={one}" for one in ("model.video_len=2", "data.repeats=1", "data.crop_size=64",
          "data.batch_size=4", "data.workers=0", "trainer.epochs=2")), "--progress", "json",
    )  # fmt: skip
    steps = [one for one in read_events(run.stderr) if one["event"] == "progress"]
    assert (steps[-1]["done"], steps[-1]["total"]) == (4, 4)

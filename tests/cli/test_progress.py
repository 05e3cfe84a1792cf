"""Long work speaks where no bar can be seen: in a pipe, or a file."""

import re
import time

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
        assert re.search(rf"epoch {epoch}/2 done, loss \d\.\d+, val F1 0\.\d+", result.stdout)

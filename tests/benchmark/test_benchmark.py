"""The benchmark from the command line: trained, killed, resumed, put in a table."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from ctma.benchmark.plan import BenchmarkPlan, Cell
from ctma.benchmark.report import write_benchmark_report
from ctma.errors import DataError
from support.commands import refused

SMALL = ("--budget", "4x4x64", "--set", "data.workers=0", "--set", "snunet:model.width=8")


@pytest.fixture(scope="module")
def done(tiny_data, ctma, tmp_path_factory):
    """A benchmark of three networks, two at a time, one of which cannot be built."""
    folder = tmp_path_factory.mktemp("benchmark") / "out"
    line = ("benchmark", "--data", tiny_data, "--models", "fc-ef,snunet,p2v", *SMALL)
    result = ctma(*line, "--jobs", 2, "--set", "p2v:model.video_len=1", "-o", folder, code=1)
    assert "2 trainings done, 1 failed" in result.stdout
    return folder


def records(folder):
    return {path.stem: json.loads(path.read_bytes()) for path in folder.glob("records/[!.]*.json")}


pytestmark = pytest.mark.slow


@pytest.mark.long
def test_every_run_says_how_it_came_about(done, tiny_data):
    found = records(done)
    assert found.keys() == {"fc-ef-0", "snunet-0"}
    for record in found.values():
        assert record["picked_on"] == "val"
        assert (record["split"], record["protocol"], record["threshold"]) == ("test", "crops", 0.5)
        assert record["pairs"] == len(record["per_pair"]) == 4
        assert record["recipe"]["data"]["draws"] * record["recipe"]["trainer"]["epochs"] == 16
        assert record["machine"]["threads"] >= 1
        for name in ("data", "training_data", "validation_data", "code", "checkpoint", "seconds"):
            assert record[name], name
    same = ("data", "training_data", "validation_data", "code", "budget")
    assert len({json.dumps([record[name] for name in same]) for record in found.values()}) == 1


@pytest.mark.long
def test_a_run_that_fails_is_recorded_with_its_reason_and_the_others_go_on(done):
    failure = json.loads((done / "failures/p2v-0.json").read_bytes())
    assert "video_len" in failure["reason"]
    assert "p2v-0 failed: " in (done / "table.md").read_text()


@pytest.mark.long
def test_the_table_is_there_for_people_for_programs_and_with_pictures(done):
    table = (done / "table.md").read_text()
    assert "| fc-ef | 1 |" in table
    assert "picked on val" in table
    assert "objects found" in table
    rows = json.loads((done / "table.json").read_bytes())["rows"]
    assert {row["network"] for row in rows} == {"fc-ef", "snunet"}
    for row in rows:
        assert row["costs"]["parameters"] > 0
        assert row["costs"]["pairs_a_second"] > 0
        assert row["costs"]["gmac"] > 0
    page = (done / "table.html").read_text()
    assert page.count("data:image/") == 2
    assert Image.open(done / "masks.jpg").width > 400
    assert Image.open(done / "curves.png").width > 400


@pytest.mark.long
def test_resuming_adds_seeds_and_repeats_nothing(done, tiny_data, ctma, tmp_path):
    folder = shutil.copytree(done, tmp_path / "out")
    before = records(folder)
    line = (
        "benchmark",
        "--data",
        tiny_data,
        *SMALL,
        "--set",
        "p2v:model.video_len=1",
        "-o",
        folder,
    )
    refused(ctma, "--resume", *line, "--models", "fc-ef,snunet,p2v")
    changed = (*line, "--models", "fc-ef,snunet,p2v", "--resume", "--protocol", "whole")
    refused(ctma, ("--protocol whole", "begun with crops"), *changed)
    for left in ("records/.part-a.json", "failures/.part-b.json"):  # by a kill while writing
        (folder / left).write_text("{")
    ctma(*line, "--models", "fc-ef,p2v", "--seeds", 2, "--resume", code=1)
    after = records(folder)
    assert after.keys() == {"fc-ef-0", "fc-ef-1", "snunet-0"}
    assert {name: after[name] for name in before} == before
    assert "| fc-ef | 2 |" in (folder / "table.md").read_text()


@pytest.mark.long
def test_what_cannot_be_trusted_enters_no_table(done, tmp_path):
    folder = shutil.copytree(done, tmp_path / "out")
    path = folder / "records/fc-ef-0.json"
    record = json.loads(path.read_bytes())
    renamed = [record["per_pair"][0] | {"name": "other"}, *record["per_pair"][1:]]
    for change, expected in (
        ({"picked_on": "test"}, "picked on what it is scored on"),
        ({"validation_data": record["data"]}, "picked on what it is scored on"),
        ({"picked_on": "train"}, "picked on train, not val"),
        ({"f1": 0.999}, "does not add up"),
        ({"iou": 0.999}, "does not add up"),
        ({"f1": float("nan")}, "does not say f1"),
        ({"recipe": {}}, "does not say recipe.name"),
        ({"per_pair": renamed}, "not of the same pairs"),
        ({"code": None}, "does not say code"),
        ({"training_data": {}}, "does not say training_data"),
        ({"machine": {}}, "does not say machine"),
        ({"per_pair": [{}]}, "does not say per_pair"),
        ({"seed": 7}, "is not called so"),
        ({"protocol": "whole"}, "they do not compare"),
        ({"data": "0"}, "they do not compare"),
        ({"arithmetic": "bf16"}, "they do not compare"),
        ({"training_data": {"fingerprint": "0", "pairs": 8}}, "they do not compare"),
    ):
        path.write_text(json.dumps(record | change))
        with pytest.raises(DataError, match=expected):
            write_benchmark_report(folder)


@pytest.mark.long
def test_what_is_kept_and_damaged_is_told_in_a_line(done, tmp_path):
    for kept in ("costs.json", "health.json", "failures/p2v-0.json"):
        folder = shutil.copytree(done, tmp_path / kept.replace("/", "-"))
        (folder / kept).write_text('{"')
        with pytest.raises(DataError, match="is damaged"):
            write_benchmark_report(folder)
    folder = shutil.copytree(done, tmp_path / "failures")
    (folder / "failures/p2v-0.json").write_text('{"network": null}')
    with pytest.raises(DataError, match="does not say network"):
        write_benchmark_report(folder)
    folder = shutil.copytree(done, tmp_path / "masks")
    next((folder / "masks/snunet").iterdir()).unlink()
    assert folder / "masks.jpg" in write_benchmark_report(folder)


@pytest.mark.long
def test_two_versions_of_a_network_of_ones_own_share_no_row(done, tmp_path):
    folder = shutil.copytree(done, tmp_path / "out")
    record = json.loads((folder / "records/snunet-0.json").read_bytes())
    later = record | {"seed": 1, "network_code": "another"}
    (folder / "records/snunet-1.json").write_text(json.dumps(later))
    with pytest.raises(DataError, match="code of its network"):
        write_benchmark_report(folder)


def test_what_would_fail_late_is_told_before_any_training(tiny_data, ctma, tmp_path):
    data = shutil.copytree(tiny_data, tmp_path / "data")
    line = ("benchmark", "--data", data, "--models", "fc-ef", "--set", "data.workers=0")
    flat = data / "train/A/train_0002.png"
    whole = flat.read_bytes()
    Image.new("RGB", (64, 48)).save(flat)
    small = (*line, "--budget", "4x4x64", "-o", tmp_path / "out")
    refused(ctma, ("train_0002.png has 48 pixels", "takes 64"), *small)
    flat.write_bytes(whole)
    refused(ctma, "of at most 64", *line, "--budget", "4x4x128", "-o", tmp_path / "out")
    refused(ctma, "is the data folder", *line, "--budget", "4x4x64", "-o", data)
    (data / "test/A/test_0001.png").write_bytes(b"no picture")
    refused(ctma, "test/test_0001", *line, "--budget", "4x4x64", "-o", tmp_path / "out")
    assert not (tmp_path / "out/runs").exists()


@pytest.mark.long
def test_a_training_may_be_shared_by_processes(tiny_data, ctma, tmp_path):
    ctma("benchmark", "--data", tiny_data, "--models", "fc-ef", *SMALL[:4], "--devices", 2,
         "--device", "cpu", "-o", tmp_path / "out")  # fmt: skip
    assert records(tmp_path / "out").keys() == {"fc-ef-0"}


def test_recipes_are_those_of_svcds_labels_or_of_the_folders_name(tiny_data, tmp_path):
    data = shutil.copytree(tiny_data, tmp_path / "OUT/whu-cd")
    plan, cell = BenchmarkPlan(data=str(data), models=("ctma",), recipe="released"), Cell("ctma", 0)
    assert plan.recipe_for(cell).name == "whu-cd/ctma"
    for split in ("train", "val", "test"):
        for kind, name in (("A", "A"), ("B", "B"), ("label", "OUT")):
            shutil.move(data / split / kind, data / split / "moved")
            shutil.move(data / split / "moved", data / split / name / "scene")
    assert plan.pairs("train")[0].name.startswith("scene/")
    assert plan.recipe_for(cell).name == "svcd/ctma"


@pytest.mark.long
def test_records_without_their_plan_are_not_gone_on_with(done, tiny_data, ctma, tmp_path):
    folder = shutil.copytree(done, tmp_path / "out")
    (folder / "benchmark.json").unlink()
    line = ("benchmark", "--data", tiny_data, "--models", "fc-ef", *SMALL, "-o", folder)
    refused(ctma, "their plan (benchmark.json) is gone", *line, "--resume")


@pytest.mark.long
def test_data_that_changed_are_not_gone_on_with(done, tiny_data, ctma, tmp_path):
    folder, data = (
        shutil.copytree(done, tmp_path / "out"),
        shutil.copytree(tiny_data, tmp_path / "d"),
    )
    line = ("benchmark", "--data", data, "--models", "fc-ef", *SMALL, "-o")
    plan = json.loads((folder / "benchmark.json").read_bytes()) | {"data": str(data)}
    plan["settings"].remove("p2v:model.video_len=1")
    (folder / "benchmark.json").write_text(json.dumps(plan))
    shutil.copy(data / "train/label/train_0001.png", data / "train/label/train_0000.png")
    refused(ctma, ("train changed since", "name a new folder"), *line, folder, "--resume")
    shutil.rmtree(data / "val")
    shutil.copytree(data / "test", data / "val")
    refused(ctma, "val and test are the same pairs", *line, tmp_path / "new")


@pytest.mark.long
def test_masks_of_any_origin_stand_in_the_table(done, tiny_data, ctma, tmp_path):
    masks = tmp_path / "a tool"
    checkpoint = done / "runs/fc-ef-0"
    scored = ctma("eval", checkpoint, "--data", tiny_data, "--save-masks", masks, "--json", "-o",
                  tmp_path / "own.json")  # fmt: skip
    line = ("eval", "--masks", masks, "--data", tiny_data, "-o", tmp_path / "theirs.json")
    ctma(*line)
    theirs, own = json.loads((tmp_path / "theirs.json").read_bytes()), json.loads(scored.stdout)
    for name in ("f1", "precision", "recall", "true_positive", "data", "pairs"):
        assert theirs[name] == own[name], name
    folder = shutil.copytree(done, tmp_path / "out")
    ctma("benchmark", "report", folder, "--with", tmp_path / "theirs.json")
    table = (folder / "table.md").read_text()
    assert "| a tool | masks |" in table
    assert "nothing is known of: a tool" in table
    part = theirs | {"per_pair": theirs["per_pair"][:2]}
    (tmp_path / "part.json").write_text(json.dumps(part | {"network": "another"}))
    add = ("benchmark", "report", folder, "--with")
    refused(ctma, "does not add up", *add, tmp_path / "part.json")

    again = ("benchmark", "report", folder, "--with", tmp_path / "theirs.json", "--with")
    refused(ctma, "a tool is in the table already", *again, tmp_path / "theirs.json")
    refused(ctma, "is no score of masks", *again[:4], folder / "records/fc-ef-0.json")

    refused(ctma, "is there already", *line)
    refused(ctma, "--tta is for checkpoints; --masks are scored as they are", *line, "--tta")
    refused(ctma, "--device is for checkpoints", *line, "--device", "cpu")
    refused(ctma, "give either a checkpoint or --masks", "eval", "--data", tiny_data)
    (masks / "test_0000.png").unlink()
    line = (*line, "--overwrite")
    refused(ctma, ("no mask test_0000", "1 of 4"), *line)
    Image.new("L", (32, 32)).save(masks / "test_0000.png")
    refused(ctma, "is 32 x 32, its label 64 x 64", *line)


@pytest.mark.long
def test_a_training_split_that_shows_test_scenes_stops_it_unless_named(tiny_data, ctma, tmp_path):
    data = shutil.copytree(tiny_data, tmp_path / "leaking")
    for kind in ("A", "B", "label"):
        shutil.copy(data / f"test/{kind}/test_0001.png", data / f"train/{kind}/again.png")
    line = ("benchmark", "--data", data, "--models", "fc-ef", *SMALL, "-o", tmp_path / "out")
    refused(ctma, ("train shows scenes of test", "train/again", "--allow-leak leaking"), *line)
    refused(ctma, "--allow-leak leaking", *line, "--allow-leak", "other")
    assert not (tmp_path / "out/runs").exists()
    ctma(*line, "--allow-leak", "leaking")
    assert "train/again and test/test_0001" in (tmp_path / "out/table.md").read_text()
    for kind in ("A", "B", "label"):
        shutil.move(data / f"train/{kind}/again.png", data / f"val/{kind}/again.png")
    other = (*line[:-1], tmp_path / "other")
    refused(ctma, ("val shows scenes of test", "val/again", "--allow-leak leaking"), *other)


def test_a_split_without_change_is_refused(tiny_data, ctma, tmp_path):
    data = shutil.copytree(tiny_data, tmp_path / "still")
    for path in (data / "test/label").iterdir():
        Image.new("L", (64, 64)).save(path)
    line = ("benchmark", "--data", data, "--models", "fc-ef", *SMALL, "-o", tmp_path / "out")
    refused(ctma, "test: no pixel is change", *line)


@pytest.mark.long
def test_a_dry_run_times_a_step_and_writes_nothing(done, tiny_data, ctma, tmp_path):
    line = ("benchmark", "--data", tiny_data, "--models", "fc-ef", "--seeds", 3, *SMALL)
    result = json.loads(ctma(*line, "--dry-run", "--json", "-o", tmp_path / "out").stdout)
    (one,) = result["networks"]
    assert (one["steps"], one["failure"]) == (4, "")
    looks = 4 * one["costs"]["step_seconds"] + (4 * 5 + 4) * one["costs"]["pair_seconds"]
    assert one["trainings"] == 3
    assert result["seconds"] == pytest.approx(3 * looks)
    assert not (tmp_path / "out").exists()
    refused(ctma, "gpu", *line, "--device", "gpu", "-o", tmp_path / "out")
    refused(ctma, "unknown key 'foo'", *line, "--set", "bit:foo=1", "--dry-run")
    refused(ctma, "was begun with 4x4x64", *line[:3], "--models", "fc-ef", "--budget", "8x4x64",
            *SMALL[2:], "-o", done, "--dry-run")  # fmt: skip
    assert not (tmp_path / "out").exists()


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_killed_anywhere_it_goes_on(tiny_data, ctma, tmp_path):
    folder = tmp_path / "out"
    line = ["benchmark", "--data", tiny_data, "--models", "fc-ef", "--budget", "600x4x64"]
    line += ["--set", "data.workers=0", "-o", folder]
    command = [sys.executable, "-m", "ctma", *map(str, line)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        while not (folder / "runs/fc-ef-0/latest.ckpt").exists():
            assert first.poll() is None
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
    assert not (folder / "records").exists()
    ctma(*line, "--resume")
    (record,) = records(folder).values()
    assert record["recipe"]["trainer"]["epochs"] == 6
    assert record["seconds"] > 0
    steps = (folder / "runs/fc-ef-0/logs/metrics.csv").read_text()
    assert steps.count(",599,") >= 1

"""The doctor finds what hurts, and nothing else."""

import json
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from ctma.data.doctor import examine
from support import SHARED_DATA
from support.images import LABEL, random_image, write_pair, write_split


def kinds(diagnosis):
    return Counter(finding.kind for finding in diagnosis.findings)


def test_a_healthy_folder_has_no_findings(tiny_data):
    diagnosis = examine(tiny_data)
    assert diagnosis.findings == []
    assert diagnosis.pairs == {"train": 8, "val": 5, "test": 4}
    assert diagnosis.label_scale == 255


def test_the_doctor_finds_what_hurts(tmp_path):
    write_split(
        tmp_path / "train", ["good", "partner", "size", "values", "blank", "same", "cut"], 255
    )
    folder = tmp_path / "train"
    (folder / "B/partner.png").unlink()
    Image.fromarray(random_image(50, size=72)).save(folder / "B/size.png")
    Image.fromarray(LABEL // 255 * 7).save(folder / "label/values.png")
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(folder / "A/blank.png")
    shutil.copy(folder / "A/same.png", folder / "B/same.png")
    (folder / "A/cut.png").write_bytes((folder / "A/cut.png").read_bytes()[:300])
    found = {finding.where: finding.kind for finding in examine(tmp_path).findings}
    assert found == {
        "train/partner": "missing partner",
        "train/size": "unequal sizes",
        "train/values": "label values",
        "train/blank": "blank",
        "train/same": "identical",
        "train/cut": "unreadable",
    }


def test_the_doctor_goes_on_after_an_unreadable_label_and_finds_empty_splits(tmp_path):
    write_split(tmp_path / "train", ["a", "b"], 255)
    (tmp_path / "train/label/a.png").write_bytes(b"")
    (tmp_path / "val/A").mkdir(parents=True)
    found = {(finding.where, finding.kind) for finding in examine(tmp_path).findings}
    assert found == {("train/a", "unreadable"), ("val", "empty split")}


@pytest.mark.parametrize(
    "turn", [None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_90], ids=str
)
def test_a_scene_in_two_splits_is_found_reencoded_or_turned(tmp_path, turn):
    write_split(tmp_path / "train", ["a", "b", "c"], 255)
    write_split(tmp_path / "test", ["d", "e"], 255, seed=100)
    for kind in ("A", "B", "label"):
        image = Image.open(tmp_path / f"train/{kind}/b.png")
        image = image if turn is None else image.transpose(turn)
        suffix = "png" if kind == "label" else "jpg"
        image.save(tmp_path / f"test/{kind}/leak.{suffix}")
    (finding,) = examine(tmp_path).findings
    assert (finding.kind, finding.where) == ("shared scene", "train/b and test/leak")


@pytest.mark.slow
@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the real pairs are not here")
def test_three_planted_leaks_in_real_pairs_are_found_and_nothing_else(tmp_path, ctma):
    data = shutil.copytree(SHARED_DATA / "levir_cd_05m", tmp_path / "data")
    names = sorted(path.stem for path in (data / "train/A").iterdir())
    leaks = {names[3]: None, names[400]: "FLIP_TOP_BOTTOM", names[800]: "ROTATE_270"}
    for name, turn in leaks.items():
        for kind in ("A", "B", "label"):
            source = next((data / "train" / kind).glob(f"{name}.*"))
            image = Image.open(source)
            image = image.transpose(Image.Transpose[turn]) if turn else image
            options = {} if kind == "label" else {"quality": 60}
            image.save(data / "val" / kind / f"leak_{name}{source.suffix}", **options)
    diagnosis = json.loads(ctma("check", data, "--json", code=1).stdout)
    found = {f["where"] for f in diagnosis["findings"] if f["kind"] == "shared scene"}
    assert found == {f"train/{name} and val/leak_{name}" for name in leaks}


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the real pairs are not here")
@pytest.mark.slow
def test_svcd_as_distributed_checks_clean():
    diagnosis = examine(SHARED_DATA / "svcd")
    assert diagnosis.pairs == {"train": 506, "val": 200, "test": 100}
    assert diagnosis.findings == []
    assert diagnosis.between > 0


@pytest.mark.parametrize(("value", "what"), [(0, "no pixel is change"), (255, "every pixel")])
def test_a_split_without_change_or_stillness_is_said(tmp_path, value, what):
    write_split(tmp_path / "val", ["a", "b"], 255)
    for name in "cd":
        label = np.full((64, 64), value, np.uint8)
        write_pair(tmp_path / "train", name, random_image(ord(name)), random_image(7), label)
    (finding,) = examine(tmp_path).findings
    assert (finding.where, finding.severity) == ("train", "warning")
    assert what in finding.what

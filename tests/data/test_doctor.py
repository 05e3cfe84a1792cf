"""The doctor finds what hurts, and nothing else."""

import json
import shutil
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import ctma
from ctma.data.doctor import check as examine
from support import SHARED_DATA
from support.images import LABEL, random_image, write_pair, write_split
from support.networks import MeanDifference
from support.scenes import write_raster


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
    write_split(tmp_path / "val", ["v"], 255, seed=50)
    found = {finding.where: finding.kind for finding in examine(tmp_path).findings}
    assert found == {
        "train/partner": "missing partner",
        "train/size": "unequal sizes",
        "train/values": "label values",
        "train/blank": "blank",
        "train/same": "identical",
        "train/cut": "unreadable",
    }


def test_the_doctor_goes_on_after_a_damaged_raster(tmp_path):
    write_split(tmp_path / "train", ["a"], 255)
    write_split(tmp_path / "val", ["b", "c"], 255, seed=50)
    for name in ("train/A/a", "val/A/b", "val/A/c"):
        (tmp_path / f"{name}.png").unlink()
        pixels = random_image(len(name), 64).transpose(2, 0, 1)
        write_raster(tmp_path / f"{name}.tif", pixels)
    damaged = tmp_path / "val/A/b.tif"
    damaged.write_bytes(damaged.read_bytes()[:60])
    found = {finding.where: finding.kind for finding in examine(tmp_path).findings}
    assert found.pop("val/b") == "unreadable"
    assert {*found.values()} == {"shared ground"}


def test_the_doctor_goes_on_after_an_unreadable_label_and_finds_empty_splits(tmp_path):
    write_split(tmp_path / "train", ["a", "b"], 255)
    (tmp_path / "train/label/a.png").write_bytes(b"")
    for folder in ("A", "B", "label"):
        (tmp_path / "val" / folder).mkdir(parents=True)
    found = {(finding.where, finding.kind) for finding in examine(tmp_path).findings}
    assert found == {("train/a", "unreadable"), ("val", "empty split")}


@pytest.mark.parametrize(
    "turn", [None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_90], ids=str
)
def test_a_scene_in_two_splits_is_found_reencoded_or_turned(tmp_path, turn):
    write_split(tmp_path / "train", ["a", "b", "c"], 255)
    write_split(tmp_path / "val", ["d", "e"], 255, seed=100)
    for kind in ("A", "B", "label"):
        image = Image.open(tmp_path / f"train/{kind}/b.png")
        image = image if turn is None else image.transpose(turn)
        suffix = "png" if kind == "label" else "jpg"
        image.save(tmp_path / f"val/{kind}/leak.{suffix}")
    (finding,) = examine(tmp_path).findings
    assert (finding.kind, finding.where) == ("shared scene", "train/b and val/leak")


@pytest.mark.long
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
@pytest.mark.long
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


def test_where_no_label_can_be_read_nothing_is_said_of_change(tmp_path):
    for split, seed in (("train", 0), ("val", 50)):
        write_split(tmp_path / split, ["a"], 255, seed=seed)
    Image.fromarray(LABEL // 255 * 7).save(tmp_path / "train/label/a.png")
    assert only_finding(tmp_path).startswith("label values, train/a")
    assert examine(tmp_path).changed_share.keys() == {"val"}


def only_finding(folder, **options):
    (finding,) = examine(folder, **options).findings
    assert finding.severity == "error"
    return f"{finding.kind}, {finding.where}: {finding.what}"


def test_a_missing_or_misnamed_split_is_found(tmp_path):
    write_split(tmp_path / "train", ["a"], 255)
    write_split(tmp_path / "valid", ["b"], 255, seed=9)
    assert only_finding(tmp_path).startswith("missing split, val")
    assert "there is train, valid" in only_finding(tmp_path)


def test_a_list_in_the_wrong_place_is_found(tmp_path):
    write_split(tmp_path, ["a", "b"], 255)
    (tmp_path / "list").mkdir()
    (tmp_path / "list/train.txt").write_text("a.png\n")
    (tmp_path / "val.txt").write_text("b.png\n")
    assert "val.txt: lists of names are read in" in only_finding(tmp_path)


@pytest.mark.parametrize(
    ("folder", "said"), [("label", "expected a folder label or"), ("B", "B: no")]
)
def test_a_folder_of_another_name_is_one_finding(tmp_path, folder, said):
    write_split(tmp_path / "train", ["a", "b", "c"], 255)
    write_split(tmp_path / "val", ["d"], 255, seed=9)
    (tmp_path / "train" / folder).rename(tmp_path / "train/elsewhere")
    assert said in only_finding(tmp_path)
    assert only_finding(tmp_path).startswith("missing folder, train")


@pytest.mark.parametrize(
    ("sizes", "said"),
    [([64, 300], "data.crop_size=64"), ([64, 96], "data.crop_size=64"), ([48, 48], "down to 48"),
     ([300, 400], None), ([96, 96], None)],
)  # fmt: skip
def test_pairs_that_no_crop_brings_to_one_size_are_found(tmp_path, sizes, said):
    write_split(tmp_path / "val", ["v"], 255)
    for number, size in enumerate(sizes):
        images = (random_image(10 * number + date, size) for date in (5, 6))
        label = np.zeros((size, size), np.uint8)
        label[: size // 2] = 255
        write_pair(tmp_path / "train", str(number), *images, label)
    if said is None:
        assert examine(tmp_path).findings == []
    else:
        assert said in only_finding(tmp_path)


SIDES = st.sampled_from([48, 64, 64, 64, 96, 300])


@pytest.mark.slow
@given(
    splits=st.lists(st.sampled_from(["train", "val", "valid", "test"]), min_size=1, unique=True),
    sides=st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=3),
    folders=st.sampled_from(["A,B,label", "A,B,label", "A,B,OUT", "time1,time2,label", "A,C,gt"]),
    value=st.sampled_from([1, 255, 255, 254, 128]),
    suffix=st.sampled_from(["png", "png", "jpg"]),
    lost=st.sampled_from([None, None, None, "before", "change"]),
)
@settings(
    max_examples=60, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
def test_what_checks_clean_trains_and_scores(
    splits, sides, folders, value, suffix, lost, tmp_path_factory, monkeypatch
):
    groups = ("ctma.networks", "ctma.readers", "ctma.engines")
    monkeypatch.setattr("ctma.plugins._registered", {group: {} for group in groups})
    ctma.register("difference", network=MeanDifference)
    data = tmp_path_factory.mktemp("data")
    for split in splits:
        for number, (height, width) in enumerate(sides):
            label = np.zeros((height, width), np.uint8)
            label[: height // 2, : width // 3] = value
            images = (
                random_image(len(split) * 20 + 3 * number + date, 300)[:height, :width]
                for date in (0, 1)
            )
            for folder, image in zip(folders.split(","), (*images, label), strict=True):
                path = data / split / folder / f"{number}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path)
    if lost:
        next((data / splits[0]).rglob("0.*")).unlink()
    diagnosis = examine(data)
    if diagnosis.errors:
        return
    recipe = ctma.load_recipe("levir-cd/difference", ["trainer.epochs=1", "data.workers=0"])
    trained = ctma.train(recipe, data, tmp_path_factory.mktemp("run"), device="cpu")
    assert trained.epoch == 1


def test_jpeg_labels_whose_change_is_grey_are_warned_of(tmp_path):
    write_split(tmp_path / "val", ["a", "b"], 255)
    for name, value in (("a", 100), ("b", 255)):
        label = (tmp_path / f"val/label/{name}.png").rename(tmp_path / f"{name}.png")
        stored = np.asarray(Image.open(label)) // 255 * np.uint8(value)
        Image.fromarray(stored).save(tmp_path / f"val/label/{name}.jpg", quality=75)
    found = [one for one in examine(tmp_path).findings if one.kind == "label values"]
    assert [(one.where, one.severity) for one in found] == [("val/a", "warning")]
    assert "store change as 255" in found[0].what

"""Two runs at once: one wins and the other says so in a line, or both are right."""

import os
import shutil
import subprocess
import sys

import pytest

from support.scenes import read, smooth, write_raster

pytest.importorskip("rasterio")
pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture
def rasters(tmp_path):
    return [write_raster(tmp_path / f"{n}.tif", smooth(n, 200, 260)) for n in (1, 2)]


def start(*arguments, cache):
    """Starts ctma with the engine that users have, and a cache."""
    environment = os.environ | {"CTMA_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    environment.pop("CTMA_ENGINE", None)
    return subprocess.Popen(
        [sys.executable, "-m", "ctma", *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes):
    ends = [process.communicate(timeout=240) for process in processes]
    assert not any("Traceback" in said + wrong for said, wrong in ends), ends
    return [
        (process.returncode, wrong) for process, (_, wrong) in zip(processes, ends, strict=True)
    ]


def test_two_runs_into_one_folder_leave_one_whole_map(rasters, tmp_path):
    run = ("predict", *rasters, "-o", tmp_path / "OUT")
    ends = finish(*(start(*run, cache=tmp_path / "cache") for _ in range(3)))
    assert 0 in [code for code, _ in ends]
    for code, wrong in ends:
        assert code == 0 or "another run is writing there" in wrong
    finish(start("predict", *rasters, "-o", tmp_path / "ALONE", cache=tmp_path / "cache"))
    for name in ("mask.tif", "probability.tif"):
        assert (read(tmp_path / "OUT" / name) == read(tmp_path / "ALONE" / name)).all()
    assert not (tmp_path / "OUT/.ctma-unfinished").exists()


def test_two_processes_fill_one_empty_cache_and_agree(rasters, tmp_path):
    outputs = [tmp_path / name for name in "AB"]
    ends = finish(
        *(start("predict", *rasters, "-o", out, cache=tmp_path / "cache") for out in outputs)
    )
    assert [code for code, _ in ends] == [0, 0]
    assert (read(outputs[0] / "mask.tif") == read(outputs[1] / "mask.tif")).all()
    assert not [*(tmp_path / "cache").rglob(".part-*")]


@pytest.mark.parametrize("state", ["a file", "deleted", "full of damage"])
def test_a_cache_that_cannot_be_used_costs_time_and_no_map(rasters, tmp_path, state):
    cache = tmp_path / "cache"
    if state == "a file":
        cache.write_text("no folder")
    else:
        assert finish(start("predict", *rasters, "-o", tmp_path / "A", cache=cache))[0][0] == 0
    if state == "full of damage":
        for path in cache.rglob("*"):
            if path.is_file():
                path.write_bytes(path.read_bytes()[:100])
    process = start("predict", *rasters, "-o", tmp_path / "B", cache=cache)
    if state == "deleted":
        shutil.rmtree(cache)
    ((code, wrong),) = finish(process)
    assert code == 0, wrong
    if state != "a file":
        assert (read(tmp_path / "A/mask.tif") == read(tmp_path / "B/mask.tif")).all()


def test_two_runs_over_the_same_images_are_both_right(tiny_data, tmp_path):
    folders = [tiny_data / "test" / date for date in "AB"]
    run = ("predict", *folders, "-o", tmp_path / "OUT")
    ends = finish(*(start(*run, cache=tmp_path / "cache") for _ in range(2)))
    assert [code for code, _ in ends] == [0, 0]
    finish(start("predict", *folders, "-o", tmp_path / "ALONE", cache=tmp_path / "cache"))
    names = sorted(path.name for path in (tmp_path / "ALONE/mask").iterdir())
    for name in names:
        alone, shared = (tmp_path / out / "mask" / name for out in ("ALONE", "OUT"))
        assert alone.read_bytes() == shared.read_bytes()

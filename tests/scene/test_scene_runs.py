"""Long runs over scenes: killed, resumed, shared among workers, on full disks."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

rasterio = pytest.importorskip("rasterio")
pytest.importorskip("distributed")

from rasterio.transform import from_origin  # noqa: E402

from ctma import (  # noqa: E402
    Tiling,
    create_model,
    load,
    load_model,
    predict,
    predict_xarray,
    save_model,
)
from ctma.errors import OutputError, SceneError, SettingError  # noqa: E402
from ctma.scene.windows import WORKERS, connect  # noqa: E402
from support.commands import refused  # noqa: E402
from support.network_tester import live_in  # noqa: E402
from support.scenes import (  # noqa: E402
    Neighbourhood,
    as_array,
    predict_scene,
    read,
    smooth,
    write_mosaic,
    write_raster,
)

pytestmark = pytest.mark.slow

TILING = Tiling(size=96, margin=8, ramp=16)
OUTPUTS = ("probability.tif", "mask.tif", "changes.gpkg")


class Slow(Neighbourhood):
    """Takes its time and writes a line for every window it looks at."""

    def __init__(self, log=None, seconds=0.01):
        super().__init__()
        self.log = log
        self.seconds = seconds

    def forward(self, before, after):
        time.sleep(self.seconds)
        if self.log:
            with open(self.log, "a") as log:
                log.write("window\n")
        return super().forward(before, after)


@pytest.fixture(scope="module")
def lite(tmp_path_factory):
    """Compact CTMA with random weights, for engines."""
    torch.manual_seed(0)
    return live_in(create_model("ctma-lite", video_len=0))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scene")
    return tuple(write_raster(folder / f"{seed}.tif", smooth(seed, 420, 500)) for seed in (1, 2))


@pytest.fixture(scope="module")
def expected(pair, tmp_path_factory):
    """What an undisturbed run gives."""
    output = tmp_path_factory.mktemp("expected")
    predict_scene(*pair, Slow().eval(), output, tiling=TILING)
    return {name: (output / name).read_bytes() for name in OUTPUTS}


def outputs(folder):
    return {name: (folder / name).read_bytes() for name in OUTPUTS}


def interrupt(pair, network, output, after):
    """A run that ends after some windows."""

    def stop(done, total):
        if done == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_scene(*pair, network, output, tiling=TILING, on_progress=stop)


def run_scene(pair, output, log):
    torch.set_num_threads(1)
    predict_scene(*pair, Slow(log).eval(), output, tiling=TILING, resume=True)


@pytest.mark.long
def test_killed_at_random_moments_and_resumed_the_files_are_the_same(pair, expected, tmp_path):
    # A fork server that has everything imported makes twenty processes cheap.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_scene_runs"])
    output, log = tmp_path / "out", tmp_path / "log"
    rng = np.random.default_rng(0)
    kills = 0
    for _ in range(60):
        process = context.Process(target=run_scene, args=(pair, output, log))
        process.start()
        process.join(rng.uniform(0.05, 0.9) if kills < 20 else None)
        if process.exitcode == 0:
            if kills >= 20:
                break
            for path in output.glob("*"):
                path.unlink()
        else:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
        present = {path.name for path in output.glob("*")} & set(OUTPUTS)
        assert all((output / name).read_bytes() == expected[name] for name in present)
    assert kills == 20
    assert outputs(output) == expected
    assert not (output / ".ctma-unfinished").exists()


@pytest.mark.long
@pytest.mark.slow
def test_a_map_that_is_interrupted_says_one_line_and_goes_on(ctma, tiny_model, tmp_path):
    pair = [write_raster(tmp_path / f"{n}.tif", smooth(n, 1400, 1400)) for n in (1, 2)]
    command = ("predict", *map(str, pair), "-c", str(tiny_model), "--device", "cpu")
    ctma(*command, "-o", tmp_path / "whole")
    process = subprocess.Popen(
        [sys.executable, "-m", "ctma", *command, "-o", str(tmp_path / "out")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (tmp_path / "out/.ctma-unfinished").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 130, shown
    assert shown.strip().splitlines()[-1].startswith("ctma: interrupted")
    assert "Traceback" not in shown
    ctma(*command, "-o", tmp_path / "out", "--resume")
    assert outputs(tmp_path / "out") == outputs(tmp_path / "whole")


def test_a_second_run_into_the_folder_of_one_at_work_is_refused(pair, expected, tmp_path):
    output = tmp_path / "out"
    refusals = []

    def begin_another(done, total):
        if not refusals:
            with pytest.raises(OutputError, match="another run is writing there") as refusal:
                predict_scene(*pair, Slow().eval(), output, tiling=TILING)
            refusals.append(refusal)

    predict_scene(*pair, Slow().eval(), output, tiling=TILING, on_progress=begin_another)
    assert refusals
    assert outputs(output) == expected
    assert not list(output.glob(".*"))


def test_a_resumed_run_does_no_finished_window_again(pair, expected, tmp_path):
    log = tmp_path / "log"

    interrupt(pair, Slow(log).eval(), tmp_path / "out", after=17)
    total = []
    predict_scene(
        *pair,
        Slow(log).eval(),
        tmp_path / "out",
        tiling=TILING,
        resume=True,
        on_progress=lambda _, count: total.append(count),
    )
    # One window was under way, and one ahead of it, when the run stopped.
    assert len(log.read_text().splitlines()) <= total[-1] + 2
    assert outputs(tmp_path / "out") == expected
    before = log.read_text()
    predict_scene(*pair, Slow(log).eval(), tmp_path / "out", tiling=TILING, resume=True)
    assert log.read_text() == before, "a finished run was done again"


def test_pieces_without_their_content_are_made_again(pair, expected, tmp_path):
    """A power cut may leave a file's name without its content."""

    network = Slow().eval()
    interrupt(pair, network, tmp_path, after=20)
    for pattern in ("strip-0.npy", "window-*-1.npy"):
        for path in (tmp_path / ".ctma-unfinished").glob(pattern):
            path.write_bytes(b"")
    predict_scene(*pair, network, tmp_path, tiling=TILING, resume=True)
    assert outputs(tmp_path) == expected


def test_only_an_equal_run_is_resumed(pair, tmp_path):
    network = Slow().eval()
    interrupt(pair, network, tmp_path, after=9)
    with pytest.raises(SettingError, match=r"other inputs or settings \(threshold 0.5, now 0.4\)"):
        predict_scene(*pair, network, tmp_path, tiling=TILING, threshold=0.4, resume=True)
    with pytest.raises(SettingError, match=r"\(engine eager, now exact"):
        predict_scene(*pair, network, tmp_path, tiling=TILING, engine="exact", resume=True)
    (tmp_path / ".ctma-unfinished/settings.json").write_text("5")  # by whoever
    with pytest.raises(SettingError, match="other inputs or settings; repeat"):
        predict_scene(*pair, network, tmp_path, tiling=TILING, threshold=0.4, resume=True)
    network.usage = network.usage.replace(ground_sample_distance=0.5)
    with pytest.raises(SettingError, match="other inputs or settings"):
        predict_scene(
            *pair, network, tmp_path, tiling=TILING, ground_sample_distance=1.0, resume=True
        )
    calibrated, weighed = Slow().eval(), Slow().eval()
    calibrated.usage = calibrated.usage.replace(temperature=0.7)
    weighed.fusion = 0.7
    for other in (calibrated, weighed):
        with pytest.raises(SettingError, match="other inputs or settings"):
            predict_scene(*pair, other, tmp_path, tiling=TILING, resume=True)
    predict_scene(*pair, network, tmp_path, tiling=TILING, threshold=0.4)
    with pytest.raises(SettingError, match=r"finished map of other settings.*d 0.4, now 0.5\)"):
        predict_scene(*pair, network, tmp_path, tiling=TILING, threshold=0.5, resume=True)
    options = {"threshold": 0.5, "polygon_format": "geojson", "resume": True}
    with pytest.raises(SettingError, match="holds the finished map of other settings"):
        predict_scene(*pair, network, tmp_path, tiling=TILING, **options)
    assert json.loads((tmp_path / "summary.json").read_text())["threshold"] == 0.4


def test_the_unfinished_map_of_another_pair_is_not_thrown_away(pair, tmp_path):
    network = Slow().eval()
    interrupt(pair, network, tmp_path, after=9)
    kept = sorted((tmp_path / ".ctma-unfinished").iterdir())
    with pytest.raises(OutputError, match=r"unfinished map of .*1\.tif and .*2\.tif"):
        predict_scene(*reversed(pair), network, tmp_path, tiling=TILING)
    assert sorted((tmp_path / ".ctma-unfinished").iterdir()) == kept
    predict_scene(*reversed(pair), network, tmp_path, tiling=TILING, overwrite=True)


@pytest.mark.parametrize("engine", ["openvino", "onnx", "exact"])
@pytest.mark.long
def test_every_engine_gives_the_same_bytes_however_a_scene_is_run(
    pair, lite, tmp_path, monkeypatch, engine
):
    monkeypatch.setenv("CTMA_CACHE", str(tmp_path / "cache"))
    run = partial(predict_scene, *pair, lite, tiling=TILING, engine=engine)
    here = run(tmp_path / "here")
    assert (here.summary["engine"], here.summary["precision"]) == (engine, "float32")
    run(tmp_path / "workers", workers=2)

    def stop(done, total):
        if done == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", on_progress=stop)
    with pytest.raises(SettingError, match="other inputs or settings"):
        predict_scene(*pair, lite, tmp_path / "stopped", tiling=TILING, resume=True)
    run(tmp_path / "stopped", resume=True)
    expected = outputs(tmp_path / "here")
    assert outputs(tmp_path / "workers") == expected
    assert outputs(tmp_path / "stopped") == expected
    usual = predict_scene(*pair, lite, tmp_path / "usual", tiling=TILING)
    apart = read(usual.probability).astype(int) - read(here.probability)
    assert np.abs(apart).max() <= 1


def test_a_map_that_was_killed_between_its_files_is_resumed(pair, tmp_path, monkeypatch):
    network = Slow().eval()

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("ctma.scene.predict.write_json", die)  # the summary comes last
    with pytest.raises(KeyboardInterrupt):
        predict_scene(*pair, network, tmp_path, tiling=TILING)
    assert (tmp_path / "mask.tif").exists()
    monkeypatch.undo()
    predict_scene(*pair, network, tmp_path, tiling=TILING, resume=True)


@pytest.mark.parametrize("beside", ["source of a mosaic", "mask"])
def test_what_a_raster_consists_of_is_part_of_the_run(pair, tmp_path, beside):
    network = Slow().eval()
    before = shutil.copy(pair[0], tmp_path / "before.tif")
    changed = before
    if beside == "mask":
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(before, "r+") as raster:
            raster.write_mask(np.full(raster.shape, 255, np.uint8))
        changed = f"{before}.msk"
        assert Path(changed).exists()
    else:
        vrt = write_mosaic(tmp_path / "inner.vrt", before)
        before = write_mosaic(tmp_path / "outer.vrt", vrt)
    interrupt((before, pair[1]), network, tmp_path / "out", after=9)
    os.utime(changed, ns=(1, 1))
    with pytest.raises(SettingError, match="other inputs or settings"):
        predict_scene(before, pair[1], network, tmp_path / "out", tiling=TILING, resume=True)


def test_a_run_is_resumed_only_where_the_same_computes(pair, tmp_path, monkeypatch):
    network = Slow().eval()
    interrupt(pair, network, tmp_path, after=9)
    monkeypatch.setattr("torch.__version__", "1.0")
    with pytest.raises(SettingError, match="other inputs or settings"):
        predict_scene(*pair, network, tmp_path, tiling=TILING, resume=True)


@pytest.mark.long
def test_a_full_disk_is_one_line_and_can_be_resumed(ctma_alone, tiny_model, pair, tmp_path):
    """A limit on the size of files stands for the full disk."""
    import resource

    big = [write_raster(tmp_path / f"{n}.tif", smooth(n, 896, 1744)) for n in (1, 2)]
    arguments = ("predict", *big, "-c", tiny_model, "-o", tmp_path / "out", "--json")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Windows are about 2.2 MB, strips of the scene 3.1 MB.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_600_000, limits[1]))
    try:
        result = ctma_alone(*arguments, code=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    *_, line = result.stderr.strip().splitlines()
    assert "Traceback" not in result.stderr
    assert line.startswith("ctma: error: cannot write"), result.stderr
    assert "--resume" in line
    assert not [path for path in (tmp_path / "out").iterdir() if path.name[0] != "."]
    ctma_alone(*arguments, "--resume")
    assert not (tmp_path / "out/.ctma-unfinished").exists()


@pytest.mark.long
def test_workers_give_the_same_bytes(ctma, tiny_model, tmp_path):
    pair = [write_raster(tmp_path / f"{n}.tif", smooth(n, 300, 600)) for n in (1, 2)]
    network = load_model(tiny_model)
    model = tmp_path / "fine.safetensors"
    network.usage = network.usage.replace(ground_sample_distance=0.3)
    save_model(model, network)
    for name, options in (("alone", ()), ("shared", ("--workers", 2))):
        shown = ctma("predict", *pair, "-c", model, "-o", tmp_path / name, *options).stdout
        assert "pixels of 0.5 m: seen enlarged 1.7 times" in shown
    assert outputs(tmp_path / "alone") == outputs(tmp_path / "shared")


def test_workers_run_without_the_profiler_that_can_stop_them():
    with connect(1, None) as client:
        profiled = client.run(lambda dask_worker: "profile" in dask_worker.periodic_callbacks)
    assert [*profiled.values()] == [False]


@pytest.mark.long
def test_processes_started_after_workers_keep_their_threads(pair, expected, tmp_path):
    threads = os.environ.get("OMP_NUM_THREADS")
    predict_scene(*pair, Slow().eval(), tmp_path, tiling=TILING, workers=1)
    assert outputs(tmp_path) == expected
    assert os.environ.get("OMP_NUM_THREADS") == threads


@pytest.mark.long
def test_a_killed_worker_of_a_running_cluster_loses_nothing(pair, expected, tmp_path):
    import dask
    from distributed import Client, LocalCluster

    with (
        dask.config.set(WORKERS),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        pids = list(client.run(os.getpid).values())

        def kill(done, total):
            if done == 10:
                os.kill(pids[0], signal.SIGKILL)

        predict_scene(
            *pair,
            Slow().eval(),
            tmp_path,
            tiling=TILING,
            cluster=cluster.scheduler_address,
            on_progress=kill,
        )
    assert outputs(tmp_path) == expected


@pytest.mark.parametrize("lost", [1, 1000])
def test_a_task_that_dask_loses_is_given_again_for_a_while(
    pair, expected, tmp_path, monkeypatch, lost
):
    import dask
    from distributed import Client, Future, LocalCluster

    monkeypatch.setattr("ctma.scene.windows.WAIT_SECONDS", 0.2)
    submit, losses = Client.submit, iter(range(lost))

    def submit_or_lose(self, function, *arguments, **named):
        task = submit(self, function, *arguments, **named)
        lose = "predict" in function.__name__ and next(losses, None) is not None
        return Future("a task that nobody knows", self) if lose else task

    monkeypatch.setattr(Client, "submit", submit_or_lose)
    with (
        dask.config.set(WORKERS),
        LocalCluster(1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
    ):
        options = {"tiling": TILING, "cluster": cluster.scheduler_address}
        if lost == 1:
            predict_scene(*pair, Slow().eval(), tmp_path, **options)
            assert outputs(tmp_path) == expected
        else:
            with pytest.raises(SettingError, match="stands still"):
                predict_scene(*pair, Slow().eval(), tmp_path, **options)


@pytest.mark.long
def test_a_cluster_that_does_not_answer_is_one_line(ctma, tiny_model, pair, tmp_path):
    refused(
        ctma, "no dask scheduler", "predict", *pair, "-c", tiny_model, "-o", tmp_path / "out",
        "--cluster", "tcp://127.0.0.1:9",
    )  # fmt: skip
    assert not list((tmp_path / "out").iterdir())
    refused(
        ctma, "give one", "predict", *pair, "-c", tiny_model, "-o", tmp_path / "out",
        "--cluster", "tcp://127.0.0.1:9", "--workers", "2",
    )  # fmt: skip


# Arrays


def test_settings_of_arrays_are_checked_before_anything_is_lazy():
    date = as_array(smooth(1, 64, 64)).chunk()
    with pytest.raises(SettingError, match="scale"):
        predict_xarray(date, date, Neighbourhood().eval(), scale=(1, float("inf")))


def test_arrays_that_were_masked_are_scaled_by_the_type_they_are_stored_in(pair, tmp_path):
    rioxarray = pytest.importorskip("rioxarray")
    network = Neighbourhood().eval()
    plain, masked = (
        [rioxarray.open_rasterio(path, masked=masked) for path in pair] for masked in (False, True)
    )
    assert masked[0].dtype == np.float32
    found = [predict_xarray(*dates, network, tiling=TILING) for dates in (plain, masked)]
    np.testing.assert_array_equal(*found)


def test_arrays_may_run_from_south_to_north(pair):
    rioxarray = pytest.importorskip("rioxarray")
    network = Neighbourhood().eval()
    before, after = (rioxarray.open_rasterio(path) for path in pair)
    usual = predict_xarray(before, after, network, tiling=TILING)
    flipped = before.isel(y=slice(None, None, -1)), after.isel(x=slice(None, None, -1))
    found = predict_xarray(*flipped, network, tiling=TILING)
    np.testing.assert_array_equal(found.y, flipped[0].y)
    np.testing.assert_array_equal(found.sortby("y", ascending=False), usual)


def test_bands_of_arrays_are_chosen_and_grey_serves_as_three():
    network = Neighbourhood().eval()
    first, second = (as_array(smooth(seed, 96, 96, bands=4)) for seed in (1, 2))
    found = predict_xarray(first, second, network, bands=((3, 2, 1), (1, 2, 4)))
    expected = predict_xarray(first[[2, 1, 0]], second[[0, 1, 3]], network)
    np.testing.assert_array_equal(found, expected)
    grey = predict_xarray(first[:1], second[:1], network)
    thrice = predict_xarray(first[[0, 0, 0]], second[[0, 0, 0]], network)
    np.testing.assert_array_equal(grey, thrice)
    with pytest.raises(SceneError, match="after: has 2 bands, the network takes 3"):
        predict_xarray(first, second[:2], network)


def test_lazy_arrays_give_lazy_results_equal_to_the_files(pair, tmp_path):
    rioxarray = pytest.importorskip("rioxarray")
    network = Neighbourhood().eval()
    result = predict_scene(*pair, network, tmp_path, tiling=TILING)
    lazy = [rioxarray.open_rasterio(path, chunks={"x": 128, "y": 128}) for path in pair]
    probability = predict_xarray(*lazy, network, tiling=TILING)
    assert probability.chunks is not None
    assert probability.rio.crs == lazy[0].rio.crs
    eager = predict_xarray(*(date.compute() for date in lazy), network, tiling=TILING)
    assert eager.chunks is None
    np.testing.assert_array_equal(probability, eager)
    np.testing.assert_array_equal(np.rint(eager * np.float32(250)), read(result.probability))


def test_arrays_on_other_grids_are_warped_and_holes_stay_holes():
    network = Neighbourhood().eval()
    before, after = as_array(smooth(1, 200, 200)), as_array(smooth(2, 200, 200))
    moved = after.rio.write_transform(from_origin(500_050, 4_000_000, 0.5, 0.5))
    probability = predict_xarray(before.rio.write_nodata(0), moved, network, tiling=TILING)
    assert probability.isnull()[:, :99].all()
    assert not probability.isnull()[:, 102:].any()
    far = after.rio.write_transform(from_origin(900_000, 4_000_000, 0.5, 0.5))
    with pytest.raises(ValueError, match="do not overlap"):
        predict_xarray(before, far, network)


# Averaged views


def test_a_map_averages_the_same_views_as_images(ctma, tiny_model, tmp_path):
    dates = [smooth(n, 96, 96) for n in (1, 2)]
    pair = [write_raster(tmp_path / f"{n}.tif", date) for n, date in enumerate(dates)]
    ctma("predict", *pair, "-c", tiny_model, "-o", tmp_path / "out", "--tta")
    images = [np.ascontiguousarray(date.transpose(1, 2, 0)) for date in dates]
    once, averaged = (
        250 * predict(*images, load(tiny_model, engine="eager", tta=tta)).probability
        for tta in (False, True)
    )
    found = read(tmp_path / "out/probability.tif")
    np.testing.assert_allclose(found, averaged, atol=1)
    assert abs(found - once).max() > 2


# Remote rasters


class RangeHandler(SimpleHTTPRequestHandler):
    """Serves byte ranges, as object stores do, and notes what was asked for."""

    asked: ClassVar[list[int]] = []

    def do_GET(self):
        content = (Path(self.directory) / self.path.lstrip("/")).read_bytes()
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        part = content[int(first) : int(last) + 1]
        self.asked.append(len(part))
        self.send_response(206)
        self.send_header(
            "Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
        )
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_):
        pass


@pytest.mark.long
def test_remote_cogs_are_read_by_ranges(ctma, tiny_model, tmp_path):
    for n in (1, 2):
        rng = np.random.default_rng(n)
        big = write_raster(
            tmp_path / f"{n}.tif", rng.integers(0, 256, (3, 2048, 2048), np.uint8), driver="COG"
        )
    small = write_raster(tmp_path / "part.tif", smooth(3, 200, 200))
    assert big.stat().st_size > 10_000_000
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(RangeHandler, directory=tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        result = ctma(
            "predict", f"{url}/1.tif", small, "-c", tiny_model, "-o", tmp_path / "out", "--json"
        )
        missing = ctma(
            "predict", f"{url}/absent.tif", small, "-c", tiny_model, "-o", tmp_path / "no", code=2
        )
    finally:
        server.shutdown()
        server.server_close()
    assert json.loads(result.stdout)["grid"]["width"] == 200
    # A corner of the scene needs a small part of the file.
    assert sum(RangeHandler.asked) < 3_000_000
    assert "absent.tif: cannot be opened" in missing.stderr

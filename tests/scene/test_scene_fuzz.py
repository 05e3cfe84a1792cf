"""Damaged rasters: an error in one line or a whole map, never anything else."""

import signal

import numpy as np
import pytest

rasterio = pytest.importorskip("rasterio")

from ctma.errors import CtmaError  # noqa: E402
from support.scenes import Neighbourhood, predict_scene, read, smooth, write_raster  # noqa: E402

CASES = 500
HEADER = 400
"""Bytes at the start that hold a small TIFF's directory."""

SECONDS = 20
"""A case that takes longer hangs."""


class Hang(Exception):
    pass


def alarm(*_):
    raise Hang


def damaged(content, rng):
    """One of: bytes of the header changed, bytes of blocks changed, cut off, a run of zeros."""
    content = bytearray(content)
    kind = rng.integers(4)
    if kind == 0:
        for place in rng.integers(0, HEADER, rng.integers(1, 6)):
            content[place] = rng.integers(256)
    elif kind == 1:
        for place in rng.integers(HEADER, len(content), rng.integers(1, 30)):
            content[place] = rng.integers(256)
    elif kind == 2:
        del content[rng.integers(1, len(content)) :]
    else:
        start = rng.integers(len(content))
        content[start : start + 200] = bytes(len(content[start : start + 200]))
    return bytes(content)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_500_damaged_rasters_give_a_line_or_a_whole_map(tmp_path):
    rng = np.random.default_rng(0)
    size = (90, 110)
    whole = [
        write_raster(tmp_path / "plain.tif", smooth(1, *size)).read_bytes(),
        write_raster(
            tmp_path / "deflated.tif", smooth(1, *size), compress="deflate", tiled=True,
            blockxsize=64, blockysize=64,
        ).read_bytes(),
        write_raster(
            tmp_path / "float.tif", smooth(1, *size).astype(np.float32), compress="lzw", nodata=0
        ).read_bytes(),
    ]  # fmt: skip
    good = write_raster(tmp_path / "good.tif", smooth(2, *size))
    bad, output = tmp_path / "bad.tif", tmp_path / "out"
    network = Neighbourhood().eval()
    refused = 0
    former = signal.signal(signal.SIGALRM, alarm)
    try:
        for case in range(CASES):
            bad.write_bytes(damaged(whole[case % 3], rng))
            pair = (good, bad) if case % 2 else (bad, good)
            signal.alarm(SECONDS)
            line = result = None
            try:
                result = predict_scene(*pair, network, output)
            except CtmaError as error:
                line = str(error)
            finally:
                signal.alarm(0)
            if result is None:
                refused += 1
                assert "\n" not in line
                assert not output.exists() or not list(output.iterdir())
                continue
            grid = result.summary["grid"]
            for path in (result.probability, result.mask):
                assert read(path).shape == (grid["height"], grid["width"])
            if case % 2:
                assert grid["width"] <= size[1]
                assert grid["height"] <= size[0]
            for path in output.iterdir():
                path.unlink()
    finally:
        signal.signal(signal.SIGALRM, former)
    assert CASES / 4 < refused < CASES

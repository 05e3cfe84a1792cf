"""Whole, or one line: commands whose writes fail, or that are killed as they write."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rasterio")


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("cc") is None,
    reason="the library that breaks writes needs Linux and a C compiler",
)
@pytest.mark.parametrize(
    "options",
    [
        ("--each", "13", "--seed", "0", "--command", "predict", "--command", "predict a scene"),
        ("--each", "24", "--seed", "5", "--command", "train"),
    ],
    ids=["predict", "train"],
)
def test_no_write_that_fails_loses_anything(options):
    program = Path(__file__).with_name("inject.py")
    done = subprocess.run(
        [sys.executable, str(program), *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    total = done.stdout.strip().splitlines()[-1].split()
    assert (total[0], total[-1]) == ("all", "0")
    assert int(total[1]) >= 24

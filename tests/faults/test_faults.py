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
def test_no_write_that_fails_loses_anything():
    program = Path(__file__).with_name("inject.py")
    done = subprocess.run(
        [sys.executable, str(program), "--each", "7", "--seed", "2"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    total = done.stdout.strip().splitlines()[-1].split()
    assert (total[0], total[1], total[-1]) == ("all", "56", "0")

"""Ctrl-C at a moment when Python can take it."""

import os
import signal
import subprocess
import sys
import time

import pytest

SLOW_IMPORT = """
import signal, sys, time
from ctma.cli.interrupts import heed_interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started this deaf
heed_interrupts()
print("ready", flush=True)
try:
    import slow
    print("imported", flush=True)
    time.sleep(30)
except KeyboardInterrupt:
    print("interrupted", "slow" in sys.modules, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_waits_for_the_end_of_an_import(tmp_path):
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(1)\n")
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_IMPORT],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": _path(tmp_path)},
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    shown, _ = process.communicate(timeout=20)
    assert shown == "imported\ninterrupted True\n"


def _path(folder):
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])

"""Runs commands in forked processes, where all is imported already."""

import os
import sys
import time
import traceback

LONGEST = 120
"""Seconds after which a run counts as hung."""


def prepare_process():
    """Imports what commands import, so that a forked run takes a moment."""
    from pathlib import Path

    import lightning.pytorch
    import pyogrio
    import rasterio
    import torch

    import ctma.cli.app
    import ctma.scene.predict
    import ctma.training.run  # noqa: F401

    torch.set_num_threads(1)
    sys.path.insert(0, str(Path(__file__).parents[1]))
    del lightning, pyogrio, rasterio


def make_map(base, before):
    """Makes a map in ``base / map``, in another process: GDAL's threads do not survive a fork."""
    arguments = f"predict {base}/{before} {base}/b.tif -c {base}/m.safetensors -o {base}/map"
    code, said, _ = run_forked(arguments, base / "report")
    assert code == 0, said


def run_forked(arguments, report, begin=lambda: None, end=lambda: None):
    """Runs ``ctma``: exit code, what it said, and its largest memory in bytes.

    Args:
        arguments: The command line.
        report: A file for what it says.
        begin: Called in the new process before the command.
        end: Called in the new process after the command.
    """
    child = os.fork()
    if child == 0:
        handle = os.open(report, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        from ctma.cli.app import main

        code = 1
        begin()
        try:
            main(arguments.split())
            code = 0
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:  # noqa: BLE001 (the report tells)
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            end()
            os._exit(code)
    latest = time.monotonic() + LONGEST
    while (done := os.wait4(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > latest:
            os.kill(child, 9)
            os.wait4(child, 0)
            return 99, "hung", 0
        time.sleep(0.01)
    said = report.read_text(errors="replace")
    return os.waitstatus_to_exitcode(done[1]), said, done[2].ru_maxrss * 1024

"""The command line, run in this process or in one of its own."""

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass

from ctma.cli.app import main


@dataclass
class Result:
    """What a command left: exit code and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def run_here(*arguments, code=0, cwd=None):
    """Runs ``ctma`` in this process: no second import of torch."""
    stdout, stderr = io.StringIO(), io.StringIO()
    found = 0
    with (
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        contextlib.chdir(cwd or os.curdir),
    ):
        try:
            main([*map(str, arguments)])
        except SystemExit as end:
            found = end.code or 0
    result = Result(found, stdout.getvalue(), stderr.getvalue())
    assert result.returncode == code, result.stdout + result.stderr
    return result


def run_alone(*arguments, code=0, cwd=None, module="ctma", env=None, timeout=300):
    """Runs ``ctma`` in a process of its own: for signals, limits and several processes."""
    result = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | (env or {}),
        timeout=timeout,
    )
    assert result.returncode == code, result.stdout + result.stderr
    return result


def refused(ctma, expected, *arguments, **options):
    """A mistake: one line that holds what is expected, exit code 2, and no traceback."""
    result = ctma(*arguments, code=2, **options)
    *others, line = result.stderr.strip().splitlines()
    assert line.startswith("ctma: error: ")
    assert not [other for other in others if "Traceback" in other or "ctma: error" in other]
    for text in expected if isinstance(expected, tuple) else (expected,):
        assert text in line, line
    return line

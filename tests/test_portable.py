"""What runs on other systems than this one."""

import subprocess
import sys

import pytest

from support import ROOT

HIDDEN = ("fcntl", "grp", "pwd", "resource", "syslog", "termios", "tty")
"""Modules of the standard library that are only on POSIX systems."""

IMPORT_ALL = """
import importlib, sys
for name in sys.argv[1].split(","):
    sys.modules.pop(name, None)
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in sys.argv[1].split(",") and not asked_by_others():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
def asked_by_others():
    frame = sys._getframe(2)
    while frame is not None and "importlib" in frame.f_code.co_filename:
        frame = frame.f_back
    return frame is not None and "/ctma/" not in frame.f_code.co_filename
sys.meta_path.insert(0, Hidden())
for module in sys.argv[2].split(","):
    importlib.import_module(module)
"""


@pytest.mark.slow
def test_no_module_needs_what_only_posix_systems_have_before_it_is_used():
    source = ROOT / "src"
    modules = [
        ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((source / "ctma").rglob("*.py"))
        if path.name != "__main__.py"
    ]
    command = [sys.executable, "-c", IMPORT_ALL, ",".join(HIDDEN), ",".join(modules)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr

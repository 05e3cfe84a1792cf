"""The command line where torch and what needs it cannot be imported."""

import os
import subprocess
import sys

PROGRAM = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "timm", "lightning"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
from ctma.cli.app import main
main(sys.argv[1:])
"""


def run_without_torch(*arguments, code=0, env=None):
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    environment = os.environ | (env or {})
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == code, result.stdout + result.stderr
    return result

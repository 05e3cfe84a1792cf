"""``ctma info``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml

from ctma.cli.commands.options import Json
from ctma.cli.output import print_json, say


def info(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint.")], as_json: Json = False
) -> None:
    """Say what is in a checkpoint."""
    from ctma.inference.info import info as run

    description = run(checkpoint)
    if as_json:
        print_json(description)
    else:
        say(yaml.safe_dump(description, sort_keys=False).rstrip())

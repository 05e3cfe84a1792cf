"""``ctma export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctma.cli.commands.options import ReplaceFile
from ctma.cli.output import say


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, or the name of a shipped one.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The file to write; its suffix chooses the format: .onnx, .xml or .pt2.",
            metavar="FILE",
        ),
    ],
    purpose: Annotated[
        str | None,
        typer.Option(
            "--for", help="The program that will read the file: qgis-deepness.", metavar="NAME"
        ),
    ] = None,
    stac: Annotated[
        bool, typer.Option("--stac", help="Also write a STAC item that describes the file.")
    ] = False,
    overwrite: ReplaceFile = False,
) -> None:
    """Write a network for other programs: ONNX, OpenVINO, torch; it ends in probability."""
    from ctma.exports.formats import export as run

    for path in run(checkpoint, output, purpose=purpose, stac=stac, overwrite=overwrite):
        say(f"wrote {path}")

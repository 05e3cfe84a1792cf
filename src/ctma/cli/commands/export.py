"""``ctma export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctma.cli.commands.options import Fusion, ReplaceFile, VideoLength, keep_given
from ctma.cli.output import say, warn


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, or the name of a shipped one.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help=".onnx, .xml or .pt2.", metavar="FILE")
    ],
    purpose: Annotated[
        str | None,
        typer.Option("--for", help="qgis-deepness: as the QGIS plug-in reads it.", metavar="NAME"),
    ] = None,
    stac: Annotated[bool, typer.Option("--stac", help="A STAC item beside it.")] = False,
    fusion: Fusion = None,
    video_len: VideoLength = None,
    overwrite: ReplaceFile = False,
) -> None:
    """Write a network for other programs: ONNX, OpenVINO, torch; it ends in probability."""
    from ctma.checkpoints.store import load_telling
    from ctma.inference.export import export as run

    arguments = keep_given(fusion=fusion, video_len=video_len)
    network = load_telling(checkpoint, arguments, warn)
    for path in run(network, output, purpose=purpose, stac=stac, overwrite=overwrite):
        say(f"wrote {path}")

"""``ctma quantize``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ctma.cli.commands.options import Data, Folders, Json, ReplaceFile
from ctma.cli.output import print_json, say
from ctma.types import ignore


def quantize(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, or the name of a shipped one.")],
    data: Data,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="The .xml file to write, for OpenVINO.", metavar="FILE"
        ),
    ],
    most: Annotated[
        float, typer.Option(min=0, help="The largest accepted loss of F1 on val, in points of 100.")
    ] = 0.2,
    folders: Folders = None,
    overwrite: ReplaceFile = False,
    as_json: Json = False,
) -> None:
    """Turn a checkpoint to 8 bits, if it stays as good on val: scales come from train."""
    from ctma.evaluation.quantization import quantize as run

    quantization = run(
        checkpoint,
        data,
        output,
        most=most,
        folders=folders,
        overwrite=overwrite,
        on_note=ignore if as_json else say,
    )
    if as_json:
        print_json(asdict(quantization))
        return
    before, after = 100 * quantization.f1_before, 100 * quantization.f1_after
    say(f"F1 on val {before:.2f} in float32, {after:.2f} in 8 bits")
    say(f"wrote {output} and {output.with_suffix('.bin')}")

"""``ctma convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctma.cli.commands.options import ReplaceFile
from ctma.cli.output import say


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="A .pth file, a .safetensors file, or the name of a shipped checkpoint."
        ),
    ],
    target: Annotated[
        Path,
        typer.Argument(
            help="The file to write: .safetensors for a .pth, and the reverse. A checkpoint of "
            "ctma that is only changed stays a .safetensors."
        ),
    ],
    fusion: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="The fusion weight of a .pth file; its recipe states the value."
        ),
    ] = None,
    video_len: Annotated[
        int | None,
        typer.Option(
            "--video-len",
            min=2,
            help="The frames of the pseudo-video of a .pth file.",
            show_default="8",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="An argument of the network of a .pth file, such as width=16.",
            metavar="KEY=VALUE",
        ),
    ] = None,
    ground_sample_distance: Annotated[
        float | None,
        typer.Option(
            "--gsd", help="Metres a pixel of the training images, for the header.", metavar="METRES"
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="The probability above which a pixel is change, for the header."
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="A figure of ctma calibrate, for the header.")
    ] = None,
    offset: Annotated[
        float | None, typer.Option(help="A figure of ctma calibrate, for the header.")
    ] = None,
    half: Annotated[
        bool | None,
        typer.Option(
            "--half/--full",
            help="Write the weights in float16, half the size, or in float32.",
            show_default="as in SOURCE",
        ),
    ] = None,
    overwrite: ReplaceFile = False,
) -> None:
    """Convert released weights to a checkpoint of ctma, or back; or change a checkpoint.

    --half, --full, --gsd, --threshold, --temperature and --offset change a checkpoint, and an
    adapter becomes whole.
    """
    from ctma.checkpoints.conversion import convert as run
    from ctma.settings import read_setting

    said = {"fusion": fusion, "video_len": video_len}
    given = {name: value for name, value in said.items() if value is not None}
    network = run(
        source,
        target,
        arguments=dict(map(read_setting, settings or ())) | given,
        half=half,
        ground_sample_distance=ground_sample_distance,
        threshold=threshold,
        temperature=temperature,
        offset=offset,
        overwrite=overwrite,
    )
    say(f"wrote {target}: {network.name} {network.arguments}")

"""``ctma convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctma.cli.output import say


def convert(
    source: Annotated[Path, typer.Argument(help="original.pth, or ours.safetensors.")],
    target: Annotated[Path, typer.Argument(help="The other kind.")],
    fusion: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="For a .pth, which does not say it: 0.5 SVCD, 0.67 LEVIR-CD, 0.7 WHU-CD.",
            show_default="0.5",
        ),
    ] = None,
    video_len: Annotated[
        int | None, typer.Option(min=2, help="For a .pth, frames.", show_default="8")
    ] = None,
    ground_sample_distance: Annotated[
        float | None, typer.Option("--gsd", help="Metres a pixel, kept in the header.")
    ] = None,
) -> None:
    """Convert weights of the released implementation to ours, or back."""
    from ctma.checkpoints import convert_weights

    arguments = {"fusion": fusion, "video_len": video_len}
    header = convert_weights(
        source,
        target,
        arguments={key: value for key, value in arguments.items() if value is not None},
        ground_sample_distance=ground_sample_distance,
    )
    say(f"wrote {target}: {header.network} {header.arguments}")

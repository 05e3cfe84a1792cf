"""``ctma convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctma.cli.commands.options import Fusion, VideoLength, keep_given
from ctma.cli.output import say, warn


def convert(
    source: Annotated[Path, typer.Argument(help="original.pth, a .safetensors, or ctma-s.")],
    target: Annotated[Path, typer.Argument(help="The other kind; with --half a .safetensors.")],
    fusion: Fusion = None,
    video_len: VideoLength = None,
    ground_sample_distance: Annotated[
        float | None,
        typer.Option("--gsd", help="Metres a pixel it was trained at, for its header."),
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="Keep kernels in float16: half the size.")
    ] = False,
) -> None:
    """Convert weights of the released implementation to ours, or back; or ours to half size."""
    from ctma.checkpoints.conversion import convert_weights

    network = convert_weights(
        source,
        target,
        arguments=keep_given(fusion=fusion, video_len=video_len),
        ground_sample_distance=ground_sample_distance,
        half=half,
        on_note=warn,
    )
    say(f"wrote {target}: {network.name} {network.arguments}")

"""``ctma convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctma.cli.commands.options import ReplaceFile
from ctma.cli.output import say


def convert(
    source: Annotated[Path, typer.Argument(help="original.pth, a .safetensors, or ctma-lite.")],
    target: Annotated[Path, typer.Argument(help="The other kind; with --half a .safetensors.")],
    fusion: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Of a .pth, which does not say it: see the recipe it was trained by."
        ),
    ] = None,
    video_len: Annotated[
        int | None,
        typer.Option("--video-len", min=2, help="Of a .pth: frames.", show_default="8"),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Of a .pth: an argument of its network, width=16.", metavar="KEY=VALUE"
        ),
    ] = None,
    ground_sample_distance: Annotated[
        float | None,
        typer.Option(
            "--gsd", help="For its header: metres a pixel it was trained at.", metavar="METRES"
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="For its header: where change begins.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="For its header: as ctma calibrate found it.")
    ] = None,
    offset: Annotated[
        float | None, typer.Option(help="For its header: as ctma calibrate found it.")
    ] = None,
    half: Annotated[
        bool | None,
        typer.Option(
            "--half/--full",
            help="Keep kernels in float16, half the size, or in float32.",
            show_default="as in SOURCE",
        ),
    ] = None,
    overwrite: ReplaceFile = False,
) -> None:
    """Convert weights of the released implementation to ours, or back; or ours to half size."""
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

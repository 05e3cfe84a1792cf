"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Data = Annotated[Path, typer.Option("--data", help="A data folder.", metavar="DIR")]
Checkpoint = Annotated[
    Path,
    typer.Option(
        "--checkpoint",
        "-c",
        help="A .safetensors checkpoint, an original .pth, or ctma-s, which is shipped.",
        metavar="FILE",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Precision = Annotated[str, typer.Option(help="32-true or bf16-mixed.")]
Threshold = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Change begins above it.", show_default="the checkpoint's"),
]
FlipViews = Annotated[
    bool, typer.Option("--tta", help="Average over four flipped views; four times slower.")
]
GroundSampleDistance = Annotated[
    float | None,
    typer.Option(
        "--gsd",
        help="Metres a pixel: images are resized to what the network was trained at.",
        show_default="a raster's own; images are seen as they are",
        metavar="METRES",
    ),
]
Subset = Annotated[str, typer.Option(help="For SVCD: real, with_shift or without_shift.")]
Fusion = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="For an original .pth, which does not say it: 0.5 SVCD, 0.67 LEVIR-CD, 0.7 WHU-CD.",
        show_default="0.5",
    ),
]
VideoLength = Annotated[
    int | None,
    typer.Option("--video-len", min=2, help="For an original .pth: frames.", show_default="8"),
]
Json = Annotated[bool, typer.Option("--json", help="Print machine-readable output.")]


def given(**options: Any) -> dict[str, Any]:
    """Those options that were given."""
    return {name: value for name, value in options.items() if value is not None}

"""``ctma explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctma.cli.commands.options import Checkpoint, GroundSampleDistance, Threshold
from ctma.cli.output import say


def explain(
    before: Annotated[Path, typer.Argument(help="The image of the earlier date.")],
    after: Annotated[Path, typer.Argument(help="The image of the later date.")],
    checkpoint: Checkpoint,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The PNG file to write.", metavar="FILE")
    ],
    label: Annotated[Path | None, typer.Option(help="The label, to draw beside the mask.")] = None,
    threshold: Threshold = None,
    gsd: GroundSampleDistance = None,
) -> None:
    """Draw the paper's two picture sheets: from coarse to final mask, and feature heat maps."""
    from ctma.figures.explain import explain as run

    sheets = run(
        before,
        after,
        checkpoint,
        output,
        label=label,
        threshold=threshold,
        ground_sample_distance=gsd,
    )
    for path in sheets:
        say(f"wrote {path}")

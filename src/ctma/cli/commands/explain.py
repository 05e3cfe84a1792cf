"""``ctma explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctma.cli.commands.options import (
    Checkpoint,
    Fusion,
    GroundSampleDistance,
    Threshold,
    VideoLength,
    keep_given,
)
from ctma.cli.output import say, warn


def explain(
    before: Annotated[Path, typer.Argument(help="An image.")],
    after: Annotated[Path, typer.Argument(help="The same place, later.")],
    checkpoint: Checkpoint,
    output: Annotated[Path, typer.Option("--output", "-o", help="A PNG.", metavar="FILE")],
    label: Annotated[Path | None, typer.Option(help="The label, shown beside.")] = None,
    threshold: Threshold = None,
    gsd: GroundSampleDistance = None,
    fusion: Fusion = None,
    video_len: VideoLength = None,
) -> None:
    """Draw the paper's two picture sheets: from coarse to final mask, and feature heat maps."""
    from ctma.checkpoints.store import load_telling
    from ctma.data.pairs import Pair, find_label_scale, read_pair, read_sample
    from ctma.figures.explain import name_sheets, save_explanation
    from ctma.files import refuse_inputs
    from ctma.inference.resolution import coarseness_warning

    inputs = [path for path in (before, after, label) if path is not None]
    refuse_inputs(inputs, name_sheets(output))
    model = load_telling(checkpoint, keep_given(fusion=fusion, video_len=video_len), warn)
    pair = Pair(before.stem, before, after, label)
    change = None if label is None else read_sample(pair, find_label_scale([pair]))[2]
    if line := coarseness_warning(model, gsd):
        warn(line)
    written = save_explanation(
        output,
        *read_pair(pair),
        model,
        change=change,
        threshold=threshold,
        ground_sample_distance=gsd,
    )
    for path in written:
        say(f"wrote {path}")

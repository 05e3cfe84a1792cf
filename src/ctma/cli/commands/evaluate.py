"""``ctma eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctma.cli.commands.options import (
    Data,
    Device,
    Engine,
    FlipViews,
    Folders,
    Fusion,
    GroundSampleDistance,
    Json,
    NoCache,
    Overwrite,
    Precision,
    Protocol,
    Subset,
    Threshold,
    VideoLength,
    keep_given,
    refuse_options,
)
from ctma.cli.output import print_json, print_scores, progress, say, warn
from ctma.errors import SettingError

Checkpoint = Annotated[Path | None, typer.Argument(help="A checkpoint.")]
Masks = Annotated[
    Path | None, typer.Option("--masks", help="Score masks of any origin instead.", metavar="DIR")
]
SaveMasks = Annotated[Path | None, typer.Option(help="Write masks here.", metavar="DIR")]
Figures = Annotated[Path | None, typer.Option(help="Write a picture sheet here.", metavar="DIR")]
ScoresFile = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Where the scores go.",
        metavar="FILE",
        show_default="scores-CHECKPOINT-DATA-SPLIT-PROTOCOL.json beside it, or here",
    ),
]

OF_MASKS = {"data", "masks", "split", "output", "overwrite", "subset", "folders", "as_json"}
"""What can be said of masks."""


def evaluate(
    context: typer.Context,
    data: Data,
    checkpoint: Checkpoint = None,
    masks: Masks = None,
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "test",
    protocol: Protocol = "crops",
    threshold: Threshold = None,
    tta: FlipViews = False,
    gsd: GroundSampleDistance = None,
    save_masks: SaveMasks = None,
    figures: Figures = None,
    output: ScoresFile = None,
    overwrite: Overwrite = False,
    subset: Subset = "real",
    folders: Folders = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Loader processes.")] = 0,
    fusion: Fusion = None,
    video_len: VideoLength = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "auto",
    no_cache: NoCache = False,
    as_json: Json = False,
) -> None:
    """Score a checkpoint, or masks, on a split, and save the score with how it was taken."""
    from ctma.evaluation.report import evaluate as run
    from ctma.evaluation.scoring import Scoring

    if (checkpoint is None) == (masks is None):
        raise SettingError("give a checkpoint, or `masks`, and not both")
    if masks is not None:
        others = context.params.keys() - OF_MASKS
        refuse_options(context, others, "is for checkpoints; `masks` are scored as they are")
        _score_masks(masks, data, split, subset, folders, output, overwrite, as_json)
        return
    assert checkpoint is not None
    scoring = Scoring(protocol, threshold, tta, gsd, precision, engine, cache=not no_cache)
    with progress("Scoring") as on_progress:
        report = run(
            checkpoint,
            data,
            split,
            scoring,
            subset=subset,
            folders=folders,
            masks=save_masks,
            figures=figures,
            output=output,
            overwrite=overwrite,
            batch_size=batch_size,
            workers=workers,
            device=device,
            arguments=keep_given(fusion=fusion, video_len=video_len),
            on_progress=on_progress,
            on_warning=warn,
        )
    if as_json:
        print_json(report.record)
        return
    print_scores(report.record)
    for path in report.files:
        say(f"wrote {path}")


def _score_masks(
    masks: Path,
    data: Path,
    split: str,
    subset: str,
    folders: str | None,
    output: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    from ctma.evaluation.masks import save_mask_scores

    with progress("Scoring") as on_progress:
        path, record = save_mask_scores(
            masks,
            data,
            split,
            subset=subset,
            folders=folders,
            output=output,
            overwrite=overwrite,
            on_progress=on_progress,
        )
    if as_json:
        print_json(record)
        return
    print_scores(record)
    say(f"wrote {path}")

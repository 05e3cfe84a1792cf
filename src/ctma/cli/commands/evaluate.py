"""``ctma eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ctma.cli.commands.options import (
    AverageViews,
    Data,
    Device,
    Engine,
    Folders,
    GroundSampleDistance,
    Json,
    NoCache,
    Overwrite,
    Precision,
    Protocol,
    Threshold,
    refuse_options,
)
from ctma.cli.output import print_json, print_scores, progress, say
from ctma.errors import SettingError

Checkpoint = Annotated[Path | None, typer.Argument(help="A checkpoint.")]
Masks = Annotated[
    Path | None,
    typer.Option(
        "--masks", help="A folder of masks to score in place of a checkpoint.", metavar="DIR"
    ),
]
SaveMasks = Annotated[
    Path | None, typer.Option(help="The folder to write the masks to.", metavar="DIR")
]
Figures = Annotated[
    Path | None, typer.Option(help="The folder for a picture sheet.", metavar="DIR")
]
ScoresFile = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="The JSON file to write the scores to.",
        metavar="FILE",
        show_default="scores-CHECKPOINT-DATA-SPLIT-PROTOCOL.json beside it, or here",
    ),
]

OF_MASKS = {"data", "masks", "split", "output", "overwrite", "folders", "as_json"}
"""What can be said of masks."""


def evaluate(
    context: typer.Context,
    data: Data,
    checkpoint: Checkpoint = None,
    masks: Masks = None,
    split: Annotated[
        str, typer.Option(help="The split to score: train, val, test or all.")
    ] = "test",
    protocol: Protocol = "crops",
    threshold: Threshold = None,
    tta: AverageViews = False,
    gsd: GroundSampleDistance = None,
    save_masks: SaveMasks = None,
    figures: Figures = None,
    output: ScoresFile = None,
    overwrite: Overwrite = False,
    folders: Folders = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pairs that run together.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes that load images.")] = 0,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "auto",
    no_cache: NoCache = False,
    as_json: Json = False,
) -> None:
    """Score a checkpoint, or masks, on a split, and save the score with how it was taken."""
    if (checkpoint is None) == (masks is None):
        raise SettingError("give either a checkpoint or `masks`")
    if masks is not None:
        others = context.params.keys() - OF_MASKS
        refuse_options(context, others, "is for checkpoints; `masks` are scored as they are")
        _score_masks(masks, context.params)
        return
    from ctma.evaluation.report import evaluate as run
    from ctma.evaluation.scoring import Scoring
    from ctma.inference.predictor import load

    assert checkpoint is not None
    scoring = Scoring(
        protocol=protocol,
        threshold=threshold,
        ground_sample_distance=gsd,
        batch_size=batch_size,
        workers=workers,
    )
    predictor = load(
        checkpoint, engine=engine, precision=precision, device=device, tta=tta, cache=not no_cache
    )
    with progress("Scoring") as on_progress:
        result = run(
            predictor,
            data,
            split,
            scoring,
            folders=folders,
            save_masks=save_masks,
            figures=figures,
            output=output,
            overwrite=overwrite,
            on_progress=on_progress,
        )
    if as_json:
        print_json(result.record.as_dict())
        return
    print_scores(result.record)
    for path in result.files:
        say(f"wrote {path}")


def _score_masks(masks: Path, options: dict[str, Any]) -> None:
    from ctma.evaluation.masks import evaluate_masks

    alike = ("data", "split", "folders", "output", "overwrite")
    with progress("Scoring") as on_progress:
        scores = evaluate_masks(
            masks, **{name: options[name] for name in alike}, on_progress=on_progress
        )
    if options["as_json"]:
        print_json(scores.as_dict())
        return
    print_scores(scores.record)
    say(f"wrote {scores.file}")

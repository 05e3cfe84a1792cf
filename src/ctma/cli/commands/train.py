"""``ctma train``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctma.cli.commands.options import (
    ENGINES,
    Data,
    Device,
    Folders,
    TrainingPrecision,
    complete_recipes,
)
from ctma.cli.output import name_options, progress_events, say
from ctma.errors import SettingError

if TYPE_CHECKING:
    from ctma.training.settings import Recipe


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A recipe such as levir-cd/ctma, or a YAML file.", autocompletion=complete_recipes
        ),
    ],
    data: Data,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The run's folder.", metavar="RUN")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change the recipe: optimizer.lr=1e-3.", metavar="KEY=VALUE"),
    ] = None,
    folders: Folders = None,
    devices: Annotated[
        int,
        typer.Option(
            min=1,
            help="Processes that share the training, one for each device.",
            rich_help_panel=ENGINES,
        ),
    ] = 1,
    device: Device = "auto",
    precision: TrainingPrecision = None,
    init: Annotated[
        Path | None,
        typer.Option(
            "--init",
            help="A checkpoint to start from. A smaller CTMA is grown.",
            metavar="FILE",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted training in RUN.")
    ] = False,
) -> None:
    """Train a network by a recipe; the best checkpoint is picked on validation."""
    from lightning.pytorch.utilities import rank_zero_only

    from ctma.training.logs import Steps
    from ctma.training.run import train as run

    tell = rank_zero_only(say)
    settings = [*(settings or ()), *([f"data.folders={folders}"] if folders else [])]
    chosen = _choose(recipe, settings, output if resume else None)
    with progress_events("Training") as on_progress:
        result = run(
            chosen,
            data,
            output,
            devices=devices,
            device=device,
            precision=precision,
            resume=resume,
            init=init,
            callbacks=[Steps(on_progress)],
            on_note=lambda line: tell(name_options(line)),
        )
    tell(
        f"best: {result.best}, epoch {result.epoch}, "
        f"F1 {100 * result.scores.f1:.2f} on {chosen.data.validation_split} "
        "(crops, threshold 0.5)"
    )


def _choose(recipe: str, settings: Sequence[str], run: Path | None) -> Recipe:
    """The recipe asked for, or the one that a run to be resumed has kept."""
    from ctma.training.keeper import RECIPE
    from ctma.training.recipes import load_kept, load_recipe

    kept = None if run is None else run / RECIPE
    if kept is None or not kept.exists():
        return load_recipe(recipe, settings)
    chosen = load_kept(kept, settings)
    if chosen.name != recipe:
        raise SettingError(f"{run}: was trained by {chosen.name}, not by {recipe}")
    if chosen.origin and chosen.origin != load_recipe(recipe).origin:
        raise SettingError(
            f"{recipe}: is not as it was when {run} was begun; give what changed as `settings`, or "
            "name a new folder"
        )
    return chosen

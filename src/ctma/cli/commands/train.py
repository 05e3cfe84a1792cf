"""``ctma train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctma.cli.commands.options import Data
from ctma.cli.output import say
from ctma.errors import SettingError


def train(
    recipe: Annotated[str, typer.Argument(help="Such as levir-cd/ctma, or a YAML file.")],
    data: Data,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The run's folder.", metavar="RUN")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change the recipe: optimizer.lr=1e-3.", metavar="KEY=VALUE"),
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="Processes, one a device.")] = 1,
    accelerator: Annotated[str, typer.Option(help="auto, cpu or gpu.")] = "auto",
    precision: Annotated[
        str | None,
        typer.Option(
            help="32-true, bf16-mixed, or auto: bf16 where the hardware multiplies it.",
            show_default="the recipe's",
        ),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            "--init",
            help="Start from the weights of a checkpoint; a smaller CTMA is grown.",
            metavar="FILE",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue where RUN stopped.")] = False,
) -> None:
    """Train a network by a recipe; the best checkpoint is picked on validation."""
    from ctma.training.engine import RECIPE
    from ctma.training.engine import train as run
    from ctma.training.recipes import load_recipe

    kept = output / RECIPE
    if resume and kept.exists():
        chosen = load_recipe(str(kept), settings or ())
        if chosen.name != recipe:
            raise SettingError(f"{output}: was trained by {chosen.name}, not by {recipe}")
    else:
        chosen = load_recipe(recipe, settings or ())
    result = run(
        chosen,
        data,
        output,
        devices=devices,
        accelerator=accelerator,
        precision=precision,
        resume=resume,
        init=init,
        on_note=lambda line: say(f"train and {chosen.data.validation_split}: {line}"),
    )
    say(
        f"best: {result.best}, epoch {result.epoch}, "
        f"F1 {100 * result.scores.f1:.2f} on {chosen.data.validation_split} (crops, threshold 0.5)"
    )

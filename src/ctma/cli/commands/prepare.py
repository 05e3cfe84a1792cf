"""``ctma prepare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctma.cli.output import progress, say


def prepare(
    dataset: Annotated[str, typer.Argument(help="levir-cd or whu-cd.")],
    source: Annotated[
        Path, typer.Argument(help="The folder of the original data set.", metavar="SRC")
    ],
    target: Annotated[
        Path, typer.Argument(help="The folder to write; it must not exist.", metavar="DST")
    ],
    split: Annotated[
        str | None, typer.Option(help="For whu-cd: spatial or random; published figures mix both.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed of whu-cd --split random.")] = 0,
) -> None:
    """Cut a published data set into 256-pixel patches, as published."""
    from ctma.data.preparation import prepare as run

    with progress(f"Cutting {dataset}") as on_progress:
        prepared = run(dataset, source, target, split=split, seed=seed, on_progress=on_progress)
    counts = ", ".join(f"{count} {name}" for name, count in prepared.pairs.items())
    say(f"{prepared.folder}: {counts}")

"""``ctma prepare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctma.cli.output import progress, say
from ctma.errors import SettingError, UnknownNameError


def prepare(
    dataset: Annotated[str, typer.Argument(help="levir-cd or whu-cd.")],
    source: Annotated[Path, typer.Argument(help="The raw data set.", metavar="SRC")],
    target: Annotated[Path, typer.Argument(help="A new folder.", metavar="DST")],
    split: Annotated[
        str | None, typer.Option(help="For whu-cd: spatial or random; published figures mix both.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="For whu-cd --split random.")] = 0,
) -> None:
    """Cut a published data set into 256-pixel patches, as published."""
    from ctma.data.preparation import prepare_levir_cd, prepare_whu_cd

    with progress(f"Cutting {dataset}") as on_progress:
        if dataset == "levir-cd":
            if split is not None:
                raise SettingError("`split` is for whu-cd: levir-cd keeps its own; leave it out")
            prepared = prepare_levir_cd(source, target, on_progress)
        elif dataset == "whu-cd":
            if split is None:
                raise SettingError("whu-cd has two published splits: add --split spatial or random")
            prepared = prepare_whu_cd(source, target, split, seed=seed, on_progress=on_progress)
        else:
            raise UnknownNameError("data set to prepare", dataset, ("levir-cd", "whu-cd"))
    counts = ", ".join(f"{count} {name}" for name, count in prepared.pairs.items())
    say(f"{prepared.folder}: {counts}")

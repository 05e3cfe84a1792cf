"""``ctma compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ctma.cli.commands.options import Json, ReplaceFile
from ctma.cli.output import print_json, say, show

if TYPE_CHECKING:
    from ctma.evaluation.records import KeptScore


def compare(
    sources: Annotated[
        list[Path], typer.Argument(help="Folders of runs, checkpoints, or scores-….json files.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Draw the runs' learning curves.", metavar="FILE"),
    ] = None,
    overwrite: ReplaceFile = False,
    as_json: Json = False,
) -> None:
    """Put the scores of runs, checkpoints and score files side by side."""
    from ctma.evaluation.comparison import compare as run
    from ctma.files import refuse_existing

    if output is not None:
        refuse_existing(output, overwrite)
    scores = run(sources)
    if output is not None:
        _draw(output, sources)
    if as_json:
        print_json([score.as_dict() for score in scores])
        return
    _print(scores)
    if output is not None:
        say(f"wrote {output}")


def _print(scores: list[KeptScore]) -> None:
    table = Table("source", "network", "data", "split", "protocol")
    for name in ("threshold", "F1", "precision", "recall", "IoU", "epoch"):
        table.add_column(name, justify="right")
    for score in scores:
        labels = (score.source, score.network, score.data_name, score.split, score.protocol)
        threshold = "" if score.threshold is None else str(score.threshold)
        ratios = (
            f"{100 * one:.2f}" for one in (score.f1, score.precision, score.recall, score.iou)
        )
        table.add_row(*labels, threshold, *ratios, str(score.epoch or ""))
    show(table)


def _draw(output: Path, sources: list[Path]) -> None:
    from ctma.errors import DataError
    from ctma.figures.curves import save_curves
    from ctma.training.table import read_table

    lines = {str(source): read_table(source) for source in sources}
    runs = {name: table for name, table in lines.items() if table}
    if not runs:
        raise DataError(f"{', '.join(lines)}: no folder of a run that logged anything")
    save_curves(output, runs)

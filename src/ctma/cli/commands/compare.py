"""``ctma compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ctma.cli.commands.options import Json, ReplaceFile
from ctma.cli.output import print_json, say, show, warn


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
    from ctma.evaluation.comparison import differences, read_scores
    from ctma.files import refuse_existing

    if output is not None:
        refuse_existing(output, overwrite)
    records = [
        {"source": str(source), **record} for source in sources for record in read_scores(source)
    ]
    if output is not None:
        _draw(output, sources)
    if as_json:
        print_json(records)
        return
    _print(records)
    for line in differences(records):
        warn(line)
    if output is not None:
        say(f"wrote {output}")


def _print(records: list[dict[str, Any]]) -> None:
    table = Table("source", "network", "data", "split", "protocol")
    for name in ("threshold", "F1", "precision", "recall", "IoU", "epoch"):
        table.add_column(name, justify="right")
    for record in records:
        told = ("source", "network", "data_name", "split", "protocol", "threshold")
        ratios = (f"{100 * record[name]:.2f}" for name in ("f1", "precision", "recall", "iou"))
        epoch = record.get("epoch") or ""
        table.add_row(*(str(record.get(name, "")) for name in told), *ratios, str(epoch))
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

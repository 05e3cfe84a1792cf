"""``ctma check``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ctma.cli.commands.options import Folders, Json
from ctma.cli.output import print_json, progress, say, show
from ctma.types import counted

if TYPE_CHECKING:
    from ctma.data.doctor import Diagnosis

SHOWN = 20


def check(
    data: Annotated[Path, typer.Argument(help="A data folder.")],
    folders: Folders = None,
    as_json: Json = False,
) -> None:
    """Examine a data folder. The exit code is 1 if a finding would harm a training."""
    from ctma.data.doctor import check as run

    with progress("Examining") as on_progress:
        diagnosis = run(data, folders=folders, on_progress=on_progress)
    if as_json:
        print_json(asdict(diagnosis))
    else:
        _print(diagnosis)
    if diagnosis.errors:
        raise typer.Exit(1)


def _print(diagnosis: Diagnosis) -> None:
    for split, pairs in diagnosis.pairs.items():
        share = diagnosis.changed_share.get(split)
        changed = "no label to be read" if share is None else f"{100 * share:.2f} % changed"
        if ignored := diagnosis.ignored_share.get(split):
            changed += f", {100 * ignored:.2f} % without a label"
        say(f"{split}: {counted(pairs, 'pair')}, {changed}")
    between = counted(diagnosis.between, "pixel")
    nearer = f"; {between} between count as the nearer" if diagnosis.between else ""
    say(f"labels are stored as {diagnosis.coding}{nearer}")
    if not diagnosis.findings:
        say("nothing found that would hurt")
        return
    table = Table("", "what", "where", "detail")
    for finding in diagnosis.findings[:SHOWN]:
        table.add_row(finding.severity, finding.kind, finding.where, finding.what)
    show(table)
    if len(diagnosis.findings) > SHOWN:
        say(f"and {len(diagnosis.findings) - SHOWN} more; --json lists all")

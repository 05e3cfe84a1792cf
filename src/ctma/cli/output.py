"""What the commands print: progress, tables, JSON."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ctma.types import counted

console = Console(soft_wrap=True, highlight=False)
errors = Console(stderr=True, soft_wrap=True, highlight=False)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error; gives a function to call with done and total."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Elsewhere than on a terminal a bar would leave an empty line.
    disabled = not errors.is_terminal
    with Progress(*columns, console=errors, transient=True, disable=disabled) as bar:
        task = bar.add_task(what, total=None)

        def on_progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield on_progress


def say(line: str) -> None:
    """Prints a line."""
    console.print(line, markup=False)


def show(table: Table) -> None:
    """Prints a table; elsewhere than on a terminal as wide as it is."""
    wide = console if console.is_terminal else Console(width=10_000, highlight=False)
    wide.print(table)


def take_any_name() -> None:
    """Lets consoles of any encoding print names of any signs: what they lack becomes ``?``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


_OPTIONS = {
    "ground_sample_distance": "--gsd",
    "polygon_format": "--format",
    "purpose": "--for",
    "pretrained": "--set model.pretrained",
    "settings": "--set",
}
"""Options that are spelled otherwise than the arguments of Python that they stand for."""


def as_option(argument: str) -> str:
    """The option of ``ctma`` that stands for an argument of Python."""
    return _OPTIONS.get(argument, f"--{argument.replace('_', '-')}")


def warn(line: str, naming: Callable[[str], str] = as_option) -> None:
    """Prints a warning to standard error, with options for the arguments that it names."""
    errors.print(f"ctma: warning: {name_options(line, naming)}", style="yellow", markup=False)


def name_options(line: str, naming: Callable[[str], str] = as_option) -> str:
    """A line for Python callers in the command line's words: arguments in backticks as options."""
    return re.sub(r"`(\w+)`", lambda found: naming(found[1]), line)


def print_json(content: Any) -> None:
    """Prints machine-readable output."""
    print(json.dumps(content, indent=2))


def print_scores(record: dict[str, Any]) -> None:
    """Prints a score record with how it was taken."""
    table = Table(title=f"{record['split']}, {record['protocol']}, threshold {record['threshold']}")
    for name in ("F1", "precision", "recall", "IoU", "accuracy", "kappa"):
        table.add_column(name, justify="right")
    names = ("f1", "precision", "recall", "iou", "accuracy", "kappa")
    table.add_row(*(f"{100 * record[name]:.2f}" for name in names))
    show(table)
    pairs = counted(record["pairs"], "pair")
    say(f"{pairs}, labels stored as {record['labels']}, {record['arithmetic']}")
    what = f"checkpoint {record['checkpoint_name']}" if record["checkpoint_name"] else "masks"
    say(
        f"{what} {record['checkpoint']}, data {record['data_name']} {record['data']} (fingerprints)"
    )

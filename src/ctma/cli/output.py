"""Prints the output of the commands: progress, tables, JSON."""

from __future__ import annotations

import json
import math
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ctma.errors import CtmaWarning
from ctma.types import counted, ignore

if TYPE_CHECKING:
    from ctma.evaluation.records import ScoreRecord

LINE_SECONDS = 55.0
"""Seconds between two lines of progress where no bar can be shown."""

# Names of files may hold what rich would take for markup.
console = Console(soft_wrap=True, highlight=False, markup=False)
errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)

EVENT_SECONDS = 0.2
"""Seconds between two events of progress at least."""

_EVENTS: ContextVar[bool] = ContextVar("events", default=False)


@contextmanager
def events(wanted: bool) -> Iterator[None]:
    """Whether progress, warnings and errors are events: JSON, one line each, on standard error."""
    former = _EVENTS.set(wanted)
    try:
        yield
    finally:
        _EVENTS.reset(former)


def tell(event: str, line: str) -> None:
    """Prints a warning or an error on standard error, as a line or as an event."""
    if _EVENTS.get():
        _print_event(event, text=line)
        return
    before = "" if event == "interrupted" else f"{event}: "
    style = "red" if event == "error" else "yellow"
    errors.print(f"ctma: {before}{line}", style=style)


def _print_event(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), file=sys.stderr, flush=True)


@contextmanager
def progress_events(what: str) -> Iterator[Callable[[int, int], None]]:
    """As ``progress`` where events are wanted; else gives a function that does nothing."""
    if not _EVENTS.get():
        yield ignore
        return
    last = -math.inf
    _print_event("progress", what=what, done=0, total=None)

    def on_progress(done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last > EVENT_SECONDS:
            last = time.monotonic()
            _print_event("progress", what=what, done=done, total=total)

    yield on_progress


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error; gives a function to call with done and total.

    Where standard error is no terminal, a line at least every minute replaces the bar. Where events
    are wanted, they replace both.
    """
    if _EVENTS.get():
        with progress_events(what) as on_progress:
            yield on_progress
        return
    if not errors.is_terminal:
        with _lines(what) as on_progress:
            yield on_progress
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task(what, total=None)

        def on_progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield on_progress


@contextmanager
def _lines(what: str) -> Iterator[Callable[[int, int], None]]:
    """Progress as lines from a thread, because the work may report nothing for a long time."""
    start, state, over = time.monotonic(), "", threading.Event()

    def on_progress(done: int, total: int) -> None:
        nonlocal state
        state = f", {done} of {total}"

    def speak() -> None:
        while not over.wait(LINE_SECONDS):
            minutes = (time.monotonic() - start) / 60
            errors.print(f"{what}{state}, {minutes:.0f} minutes so far")

    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    try:
        yield on_progress
    finally:
        over.set()
        speaker.join()


def say(line: str) -> None:
    """Prints a line."""
    console.print(line)


def show(table: Table) -> None:
    """Prints a table, at full width where the output is no terminal."""
    wide = console if console.is_terminal else Console(width=10_000, highlight=False, markup=False)
    wide.print(table)


def take_any_name() -> None:
    """Makes consoles print ``?`` for characters that their encoding does not have."""
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
"""Options whose spelling differs from their Python arguments."""


def as_option(argument: str) -> str:
    """The command-line option for a Python argument."""
    return _OPTIONS.get(argument, f"--{argument.replace('_', '-')}")


def name_options(line: str, naming: Callable[[str], str] = as_option) -> str:
    """Replaces the Python arguments in a line, in backticks, with command-line options."""
    return re.sub(r"`(\w+)`", lambda found: naming(found[1]), line)


def print_json(content: Any) -> None:
    """Prints machine-readable output."""
    print(json.dumps(content, indent=2))


def print_scores(record: ScoreRecord) -> None:
    """Prints scores, and how they were measured."""
    how, scores = record.how, record.scores
    table = Table(title=f"{how.split}, {how.protocol}, threshold {how.threshold}")
    for name in ("F1", "precision", "recall", "IoU", "accuracy", "kappa"):
        table.add_column(name, justify="right")
    ratios = (
        scores.f1, scores.precision, scores.recall, scores.iou, scores.accuracy, scores.kappa,
    )  # fmt: skip
    table.add_row(*(f"{100 * ratio:.2f}" for ratio in ratios))
    show(table)
    say(f"{counted(how.pairs, 'pair')}, labels stored as {how.labels}, {how.arithmetic}")
    what = f"checkpoint {how.checkpoint_name}" if how.checkpoint_name else "masks"
    say(f"{what} {how.checkpoint}, data {how.data_name} {how.data} (fingerprints)")


@contextmanager
def warnings_as_lines(naming: Callable[[str], str]) -> Iterator[None]:
    """Prints every warning of ctma as one line, with options in place of Python arguments."""
    others = warnings.showwarning

    def show_warning(
        message: Warning | str, category: type[Warning], *rest: Any, **named: Any
    ) -> None:
        if issubclass(category, CtmaWarning):
            line = name_options(str(message), naming)
            tell("warning", line)
        else:
            others(message, category, *rest, **named)

    with warnings.catch_warnings():
        warnings.simplefilter("always", CtmaWarning)
        warnings.showwarning = show_warning
        yield

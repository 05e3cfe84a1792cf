"""The ``ctma`` command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import typer

from ctma._version import __version__
from ctma.cli.commands import (
    adapt,
    area,
    bench,
    benchmark,
    calibrate,
    check,
    compare,
    convert,
    demo,
    engines,
    evaluate,
    explain,
    export,
    info,
    predict,
    prepare,
    quantize,
    recipes,
    review,
    sample,
    train,
)
from ctma.cli.output import (
    as_option,
    events,
    name_options,
    say,
    take_any_name,
    tell,
    warnings_as_lines,
)
from ctma.errors import CtmaError, extras, one_line
from ctma.memory import keep_by_default

PROGRESS = ("bar", "json")
"""How progress is shown; the first is the default."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

app = typer.Typer(
    name="ctma",
    help="Finds what changed between two images of the same place.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.add_typer(prepare.app, name="prepare")
app.command("check")(check.check)
app.command("recipes")(recipes.recipes)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.add_typer(benchmark.app, name="benchmark")
app.command("compare")(compare.compare)
app.command("adapt")(adapt.adapt)
app.command("calibrate")(calibrate.calibrate)
app.command("predict")(predict.predict)
app.command("review")(review.review)
app.command("sample")(sample.sample)
app.command("area")(area.area)
app.command("explain")(explain.explain)
app.command("convert")(convert.convert)
app.command("export")(export.export)
app.command("bench")(bench.bench)
app.command("engines")(engines.engines)
app.command("quantize")(quantize.quantize)
app.command("info")(info.info)

for _command in (*app.registered_commands, *prepare.app.registered_commands):
    _command.epilog = "On any command: --progress json for events, --debug for tracebacks."


def _print_version(asked: bool) -> None:
    if asked:
        say(f"ctma {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", help="Say the version.", callback=_print_version, is_eager=True
    ),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    progress: str = typer.Option(
        "bar", "--progress", help="bar, or json: an event a line on standard error."
    ),
) -> None:
    """Finds what changed between two images of the same place."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; a user's mistake ends the run with one line and exit code 2.

    Args:
        arguments: The arguments of the command line; by default those of the process.
    """
    if arguments is None:
        arguments = sys.argv[1:]
        keep_by_default()
    if "" in arguments:
        _fail("an argument is empty; where a script gives it, look at its variables")
    rest, progress = _take_progress(arguments)
    # Take --debug anywhere, so that users can add --debug to the end of a failed command.
    plain = [argument for argument in rest if argument != "--debug"]
    with events(progress == "json"):
        if progress not in PROGRESS:
            _fail(f"--progress {progress}: expected {' or '.join(PROGRESS)}")
        run_guarded(lambda: app(plain, prog_name="ctma"), debug=len(plain) < len(rest))


def _take_progress(arguments: Sequence[str]) -> tuple[list[str], str]:
    """The arguments without ``--progress``, which may stand anywhere, and its value."""
    rest, value = [], PROGRESS[0]
    coming = iter(arguments)
    for argument in coming:
        name, equals, given = argument.partition("=")
        if name != "--progress":
            rest.append(argument)
        else:
            value = given if equals else next(coming, "")
    return rest, value


def run_guarded(
    command: Callable[[], object], *, debug: bool, naming: Callable[[str], str] = as_option
) -> None:
    """Runs a command; turns a mistake of the user into one line and exit code 2.

    Args:
        command: The command.
        debug: Whether to show the traceback instead.
        naming: Returns the option for an argument that an error names.
    """
    take_any_name()
    try:
        with extras(), warnings_as_lines(naming):
            command()
    except (Exception, KeyboardInterrupt) as error:
        if _came_of_interrupt(error):
            _say_interrupted()
            raise SystemExit(INTERRUPTED) from None
        line = None if debug else _explain(error, naming)
        if line is None:
            raise
        _fail(line, error)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer raises this after Ctrl-C
            _say_interrupted()
        raise


def _came_of_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error; libraries in C turn it into errors of their own."""
    seen = set()  # errors raised again elsewhere can come back to themselves
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def _explain(error: BaseException, naming: Callable[[str], str]) -> str | None:
    """One line for the person who made the mistake; ``None`` for a fault of the program."""
    if isinstance(error, CtmaError):
        return name_options(one_line(error), naming)
    if isinstance(error, ModuleNotFoundError) and error.name == "torch":
        return "torch is not installed; without it ctma predict runs exported models alone"
    if isinstance(error, OSError):
        reason = (error.strerror or str(error)).lower()
        return f"{error.filename}: {reason}" if error.filename else reason
    return None


def _say_interrupted() -> None:
    line = "interrupted; trainings and maps go on with --resume where they stopped"
    tell("interrupted", line)


def _fail(line: str, error: BaseException | None = None) -> None:
    tell("error", line)
    raise SystemExit(2) from error

"""The ``ctma`` command."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from ctma.cli.commands import (
    calibrate,
    check,
    convert,
    demo,
    evaluate,
    explain,
    info,
    predict,
    prepare,
    train,
)
from ctma.cli.output import errors
from ctma.errors import CtmaError

app = typer.Typer(
    name="ctma",
    help="Finds what changed between two images of the same place.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("prepare")(prepare.prepare)
app.command("check")(check.check)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("calibrate")(calibrate.calibrate)
app.command("predict")(predict.predict)
app.command("explain")(explain.explain)
app.command("convert")(convert.convert)
app.command("info")(info.info)


@app.callback()
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    """Finds what changed between two images of the same place."""


def main() -> None:
    """Runs the command line; a mistake of the user ends it with one line and exit code 2."""
    # --debug is taken anywhere, so that it can be added to the end of a failed command.
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    run_guarded(lambda: app(arguments, prog_name="ctma"), debug=debug)


def run_guarded(command: Callable[[], object], *, debug: bool) -> None:
    """Runs a command; turns a mistake of the user into one line and exit code 2."""
    try:
        command()
    except CtmaError as error:
        if debug:
            raise
        errors.print(f"ctma: error: {_one_line(error)}", style="red", markup=False)
        raise SystemExit(2) from error
    except PermissionError as error:
        if debug:
            raise
        errors.print(f"ctma: error: {error.filename}: permission denied", style="red", markup=False)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _one_line(error: CtmaError) -> str:
    """An error's message on one line.

    An error from a loader's process comes wrapped in that process's traceback, whose last
    line is the message.
    """
    message = str(error)
    if "Traceback" in message:
        message = message.strip().splitlines()[-1].partition(": ")[2]
    return " ".join(message.split())

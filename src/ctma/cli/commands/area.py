"""``ctma area``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctma.cli.commands.options import Json, ReplaceFile
from ctma.cli.output import print_json, say
from ctma.errors import warn
from ctma.types import counted

if TYPE_CHECKING:
    from ctma.survey.area import AreaEstimate
    from ctma.survey.census import Census
    from ctma.survey.estimators import Estimate


def area(
    folder: Annotated[Path, typer.Argument(help="The folder that ctma predict wrote.")],
    answers: Annotated[
        list[Path],
        typer.Argument(help="Answers on a sample, one file a reviewer.", metavar="ANSWERS"),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The report without a suffix: .html, .md and .json are written.",
            metavar="NAME",
            show_default="no report",
        ),
    ] = None,
    strata: Annotated[
        Path | None,
        typer.Option(
            help="The map that the sample was drawn from, if that is another map.", metavar="DIR"
        ),
    ] = None,
    response: Annotated[
        str, typer.Option(help="How reviewers decided, for the report.", metavar="TEXT")
    ] = "",
    overwrite: ReplaceFile = False,
    as_json: Json = False,
) -> None:
    """Estimate how much changed, with an interval, from the answers on a sample of places.

    Decisions of a review page are no probability sample. They give the user's accuracy alone.
    """
    from ctma.survey.area import estimate_area
    from ctma.survey.census import Census

    result = estimate_area(
        folder, answers, output, strata=strata, response=response, overwrite=overwrite
    )
    if isinstance(result, Census):
        warn(f"{answers[0]}: is no probability sample, so no area follows; see ctma sample")
    if as_json:
        print_json(result.as_dict())
    elif isinstance(result, Census):
        _say_census(result)
    else:
        _say_areas(result)
    if not as_json:
        for path in result.files:
            say(f"wrote {path}")


def _say_census(result: Census) -> None:
    say(
        f"{result.right} right and {result.wrong} wrong of {counted(result.changes, 'change')}; "
        f"user's accuracy {result.users:.3f} by number, {result.users_by_area:.3f} by area"
    )


def _say_areas(result: AreaEstimate) -> None:
    from ctma.survey.report import hectares

    answered = sum(stratum.places for stratum in result.strata)
    say(f"{answered} of {counted(result.design.points, 'place')} answered with change or no change")
    for line in result.deviations:
        say(line)
    say(f"mapped change     {hectares(result.mapped)} ha")
    change = result.change
    among = "" if result.overall else " among it"
    say(
        f"estimated change  {hectares(change.value)} ha{among}, 95 % interval "
        f"{hectares(change.low)} to {hectares(change.high)} ha (standard error "
        f"{hectares(change.standard_error)})"
    )
    if not result.overall:
        say("What the map missed is not known: mapped changes were drawn, and nothing else.")
    named = {
        "user's accuracy": result.users[1],
        "producer's accuracy": result.producers[1],
        "overall accuracy": result.overall,
    }
    for name, estimate in named.items():
        if estimate is not None:
            say(f"{name:19} {_tell(estimate)}")


def _tell(estimate: Estimate) -> str:
    return f"{estimate.value:.3f}, 95 % interval {estimate.low:.3f} to {estimate.high:.3f}"

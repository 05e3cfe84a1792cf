"""``ctma review``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctma.cli.commands.options import Json, ReplaceFile, refuse_options
from ctma.cli.commands.sample import read_share
from ctma.cli.output import print_json, progress, say
from ctma.types import counted

if TYPE_CHECKING:
    from ctma.review.apply import AppliedDecisions

_OF_THE_PAGE = {"output", "most", "order", "repeat", "before", "after", "overwrite", "sample"}
_OF_CHANGES = {"most", "order"}


def review(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="The folder that ctma predict wrote.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The HTML file.",
            metavar="FILE",
            show_default="review.html in the folder",
        ),
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="Largest number of changes on the page.")] = 500,
    order: Annotated[
        str,
        typer.Option(help="doubt (nearest to the threshold first), area, place or learn."),
    ] = "doubt",
    repeat: Annotated[
        str, typer.Option(help="Share of the changes to show twice, such as 5%.", metavar="SHARE")
    ] = "0%",
    before: Annotated[
        Path | None,
        typer.Option(help="The raster or the images before.", show_default="where they lay"),
    ] = None,
    after: Annotated[
        Path | None,
        typer.Option(help="The raster or the images after.", show_default="where they lay"),
    ] = None,
    apply: Annotated[
        list[Path] | None,
        typer.Option(
            help="Decisions to apply to the map, one file a reviewer; may be repeated.",
            metavar="FILE",
        ),
    ] = None,
    sample: Annotated[
        Path | None,
        typer.Option(
            help="Places of ctma sample: the page asks whether each changed, and hides the map.",
            metavar="FILE",
        ),
    ] = None,
    overwrite: ReplaceFile = False,
    as_json: Json = False,
) -> None:
    """Write a page to look at the changes of a map and decide on them, or apply decisions.

    The page is one HTML file and works offline. It gives decisions.geojson. With --apply, the
    verdicts go into the map's changes, and accepted.gpkg and accepted.tif hold what remains.
    """
    if apply:
        refuse_options(context, _OF_THE_PAGE, "is for the page, not for decisions")
        _apply(folder, apply, as_json)
        return
    with progress("Writing pictures") as on_progress:
        common: dict[str, Any] = {
            "repeat": read_share("repeat", repeat),
            "before": before,
            "after": after,
            "overwrite": overwrite,
            "on_progress": on_progress,
        }
        if sample is not None:
            from ctma.survey.page import write_survey

            refuse_options(context, _OF_CHANGES, "is for changes, not for the places of a sample")
            page = write_survey(folder, sample, output, **common)
        else:
            from ctma.review.page import write_review

            page = write_review(folder, output, most=most, order=order, **common)
    if as_json:
        print_json(asdict(page) | {"path": str(page.path)})
        return
    size, pictures = page.total_bytes / 1e6, page.picture_bytes / 1e6
    noun = "place" if order == "learn" or sample is not None else "change"
    say(f"{counted(page.shown, noun)}, {size:.1f} MB, of which pictures {pictures:.1f} MB")
    say(f"wrote {page.path}; open it in a browser")


def _apply(folder: Path, paths: list[Path], as_json: bool) -> None:
    from ctma.review.apply import apply_decisions

    applied = apply_decisions(folder, paths)
    if as_json:
        print_json(_as_dict(applied))
        return
    said = ", ".join(f"{number} {name}" for name, number in applied.counts.items() if number)
    say(f"{said or 'no decisions'}; {counted(applied.mended, 'outline')} mended")
    say(f"{counted(applied.accepted, 'change')} on the accepted map")
    for first, second, changes, same, kappa in applied.agreements:
        who = f"{first}, shown twice" if first == second else f"{first} and {second}"
        chance = "" if kappa is None else f", Cohen's kappa {kappa:.2f}"
        say(f"{who}: {same} of {counted(changes, 'change')} decided alike{chance}")
    for path in applied.files[:10]:
        say(f"wrote {path}")


def _as_dict(applied: AppliedDecisions) -> dict[str, Any]:
    return {
        "files": [str(path) for path in applied.files],
        "counts": applied.counts,
        "mended": applied.mended,
        "accepted": applied.accepted,
        "agreements": [agreement._asdict() for agreement in applied.agreements],
    }

"""``ctma sample``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ctma.cli.commands.options import Json, ReplaceFile
from ctma.cli.output import print_json, say
from ctma.errors import SettingError
from ctma.types import counted


def sample(
    folder: Annotated[Path, typer.Argument(help="The folder that ctma predict wrote.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="A .gpkg, .geojson or .csv.", metavar="FILE"),
    ],
    points: Annotated[int, typer.Option(min=2, help="Number of places.")] = 300,
    error: Annotated[
        str | None,
        typer.Option(
            "--standard-error",
            help="Wanted standard error of the changed area, such as 10%; gives the number of "
            "places.",
            metavar="SHARE",
        ),
    ] = None,
    design: Annotated[str, typer.Option(help="stratified or systematic.")] = "stratified",
    allocation: Annotated[str, typer.Option(help="neyman, proportional or equal.")] = "neyman",
    least: Annotated[int, typer.Option(min=2, help="Fewest places of a stratum.")] = 50,
    buffer: Annotated[
        float | None,
        typer.Option(
            help="Metres around mapped changes that are a stratum of their own.",
            show_default="ten pixels",
        ),
    ] = None,
    levels: Annotated[
        str | None,
        typer.Option(help="Probabilities that divide the strata, such as 0.1,0.8.", metavar="P,P"),
    ] = None,
    expect_users: Annotated[
        float, typer.Option(help="Conjectured share of the mapped change that is change.")
    ] = 0.8,
    expect_near: Annotated[
        float, typer.Option(help="Conjectured share of change near mapped changes.")
    ] = 0.05,
    expect_missed: Annotated[
        float, typer.Option(help="Conjectured share of change elsewhere.")
    ] = 0.01,
    units: Annotated[str, typer.Option(help="pixels, or polygons: the mapped changes.")] = "pixels",
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal samples.")] = 0,
    columns: Annotated[
        str | None,
        typer.Option(help="Columns of a .csv: collect-earth or collect-earth-online."),
    ] = None,
    overwrite: ReplaceFile = False,
    as_json: Json = False,
) -> None:
    """Draw places from a map, so that a reviewer tells how much really changed.

    ctma review --sample makes a page of the places. ctma area reads the answers.
    """
    from ctma.survey.report import hectares
    from ctma.survey.samples import draw_sample
    from ctma.survey.settings import SampleSettings

    settings = SampleSettings(
        points=points,
        standard_error=None if error is None else read_share("standard_error", error),
        design=design,
        allocation=allocation,
        least=least,
        buffer=buffer,
        levels=_read_levels(levels),
        expect_users=expect_users,
        expect_near=expect_near,
        expect_missed=expect_missed,
        units=units,
        seed=seed,
    )
    drawn = draw_sample(folder, output, settings, columns=columns, overwrite=overwrite)
    if as_json:
        print_json(asdict(drawn) | {"path": str(drawn.path)})
        return
    for stratum, size in zip(drawn.strata, drawn.sizes, strict=True):
        say(f"{stratum.name}: {hectares(stratum.area)} ha, {counted(size, 'place')}")
    area, share = hectares(drawn.expected_area), drawn.expected_error / drawn.expected_area
    say(
        f"{counted(drawn.points, 'place')}; if the conjectures hold, {area} ha changed, with "
        f"a standard error of {100 * share:.0f} %"
    )
    say(f"wrote {drawn.path}")


def read_share(name: str, text: str) -> float:
    """A share such as 5% or 0.05.

    Raises:
        SettingError: If the text is no number.
    """
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError as error:
        raise SettingError(f"`{name}` {text}: expected a share such as 5%") from error


def _read_levels(text: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise SettingError(f"`levels` {text}: expected probabilities such as 0.1,0.8") from error

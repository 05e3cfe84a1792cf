"""Options that several commands share, or that are many."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Annotated

import typer

from ctma.engines.listing import engine_names
from ctma.errors import SettingError

RASTERS = "For rasters with a CRS"
"""The panel of the help that names options which images do not have."""

ENGINES = "What runs the network"
"""The panel of the help for engines."""

SHARING = "For rasters: sharing the work, and resuming"
"""The panel of the help for long runs over rasters."""

Data = Annotated[Path, typer.Option("--data", help="A data folder.", metavar="DIR")]
Checkpoint = Annotated[
    Path,
    typer.Option(
        "--checkpoint",
        "-c",
        help="A .safetensors, an original .pth, or a shipped one: ctma-lite, ctma-any, ctma-s.",
        metavar="FILE",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.", rich_help_panel=ENGINES)]
Engine = Annotated[
    str,
    typer.Option(
        help=f"auto (the fastest that is known to agree), {', '.join(engine_names())}.",
        rich_help_panel=ENGINES,
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        help="float32, bf16, or auto: bf16 where the checkpoint records that it agrees.",
        rich_help_panel=ENGINES,
    ),
]
TrainingPrecision = Annotated[
    str | None,
    typer.Option(
        help="float32, bf16, or auto: bf16 where the hardware multiplies it.",
        show_default="the recipe's",
        rich_help_panel=ENGINES,
    ),
]
NoCache = Annotated[
    bool,
    typer.Option(
        "--no-cache",
        help="Do not use prepared engines on disk, and write none.",
        rich_help_panel=ENGINES,
    ),
]
Protocol = Annotated[str, typer.Option(help="How images run: crops, whole or sliding.")]
Threshold = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="A pixel is change if its probability is larger.",
        show_default="the checkpoint's",
    ),
]
AverageViews = Annotated[
    bool,
    typer.Option("--tta", help="Average over four views, flipped and resized; four times slower."),
]
GroundSampleDistance = Annotated[
    float | None,
    typer.Option(
        "--gsd",
        help="Metres a pixel of the images. ctma resizes them for the network.",
        show_default="that of the raster; for images that of the network",
        metavar="METRES",
    ),
]
Folders = Annotated[
    str | None,
    typer.Option(
        help="Names of the folders in another layout.",
        metavar="before=X,after=Y,change=Z",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print machine-readable output.")]

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files of other inputs.")]

ReplaceFile = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")]

Bands = Annotated[
    str | None,
    typer.Option(
        help="Bands such as 3,2,1, or 3,2,1:1,2,3 if the dates differ.",
        show_default="as tagged, else the first ones",
        rich_help_panel=RASTERS,
    ),
]
Scale = Annotated[
    str,
    typer.Option(
        help="auto, or the two stored values that become 0 and 1.", rich_help_panel=RASTERS
    ),
]
NoData = Annotated[
    float | None,
    typer.Option(
        help="The value of pixels without data, if the raster does not state it.",
        rich_help_panel=RASTERS,
    ),
]
NoDataAny = Annotated[
    bool,
    typer.Option(
        help="For 8-bit colours: one band without data makes a pixel without data.",
        rich_help_panel=RASTERS,
    ),
]
IgnoreGeoreference = Annotated[
    bool,
    typer.Option(help="Compare pixel by pixel, whatever place the files name."),
]
Grid = Annotated[
    str,
    typer.Option(help="The pixels of the map: before, after or finest.", rich_help_panel=RASTERS),
]
MinArea = Annotated[
    float,
    typer.Option(min=0, help="Smallest area of a polygon, square metres.", rich_help_panel=RASTERS),
]
Simplify = Annotated[
    float,
    typer.Option(min=0, help="Pixels by which to simplify polygons.", rich_help_panel=RASTERS),
]
Top = Annotated[
    int,
    typer.Option(
        min=0, max=100, help="Draw this many of the largest changes too.", rich_help_panel=RASTERS
    ),
]
Doubt = Annotated[
    bool,
    typer.Option(
        "--doubt",
        help="Write doubt.tif too: where not to believe the map.",
        rich_help_panel=RASTERS,
    ),
]
PolygonFormat = Annotated[
    str, typer.Option("--format", help="gpkg, geojson, fgb or parquet.", rich_help_panel=RASTERS)
]
Coregister = Annotated[
    bool,
    typer.Option(
        "--coregister",
        help="Measure the shift between the dates and remove it.",
        rich_help_panel=RASTERS,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Number of processes that share the work.", rich_help_panel=SHARING),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        help="The address of a running dask scheduler.",
        metavar="tcp://HOST:PORT",
        rich_help_panel=SHARING,
    ),
]
ResumeScene = Annotated[
    bool,
    typer.Option("--resume", help="Continue an interrupted run in DIR.", rich_help_panel=SHARING),
]


def complete_recipes(incomplete: str) -> list[str]:
    """Recipes that begin so, for the shell."""
    from ctma.training.recipes import list_recipes

    return [name for name in list_recipes() if name.startswith(incomplete)]


def refuse_options(context: typer.Context, names: Container[str | None], why: str) -> None:
    """Refuses options that were given and have no part in what is done.

    Raises:
        SettingError: If one of them was given.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        # By name, as some versions of typer bring their own click.
        if parameter.name in names and source and source.name == "COMMANDLINE":
            raise SettingError(f"{parameter.opts[0]} {why}; leave it out")

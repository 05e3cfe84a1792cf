"""``ctma prepare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctma.cli.commands.options import Json, NoData, refuse_options
from ctma.cli.output import print_json, progress, say
from ctma.errors import SettingError
from ctma.types import counted

if TYPE_CHECKING:
    from ctma.adaptation.preparation import LabelledScene

app = typer.Typer(
    help="Make a data set: of a published one, or of your own scenes and labels.",
    no_args_is_help=True,
)

Source = Annotated[Path, typer.Argument(help="The folder of the original data set.", metavar="SRC")]
Target = Annotated[
    Path, typer.Argument(help="The folder to write; it must not exist.", metavar="DST")
]

_OF_POLYGONS = {"where", "extent", "all_touched", "nodata"}


@app.command("levir-cd")
def levir_cd(source: Source, target: Target) -> None:
    """Cut LEVIR-CD into 256-pixel patches, as published."""
    _cut("levir-cd", source, target, None, 0)


@app.command("whu-cd")
def whu_cd(
    source: Source,
    target: Target,
    split: Annotated[
        str | None,
        typer.Option(help="spatial or random; has to be said, as published figures mix both."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed of --split random.")] = 0,
) -> None:
    """Cut WHU-CD into 256-pixel patches, as published."""
    _cut("whu-cd", source, target, split, seed)


@app.command("labels")
def labels(
    context: typer.Context,
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="Two rasters and the labels: polygons, or a raster of 0 and 1. With --reviewed, "
            "the folder of a map.",
            metavar="BEFORE AFTER LABELS",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The data folder.", metavar="DIR")],
    reviewed: Annotated[
        list[Path] | None,
        typer.Option(
            help="Decisions of a review page, one file a reviewer; may be repeated.", metavar="FILE"
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(help="Choose polygons by attributes, such as \"class = 'new'\"."),
    ] = None,
    extent: Annotated[
        Path | None,
        typer.Option(
            help="Polygons of what was labelled; the rest has no label.",
            show_default="the whole scene",
            metavar="FILE",
        ),
    ] = None,
    all_touched: Annotated[
        bool, typer.Option("--all-touched", help="Each pixel counts that a polygon touches.")
    ] = False,
    tile: Annotated[int, typer.Option(min=64, help="Side of a tile, in pixels.")] = 256,
    holdout: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the labels to hold out for scores.")
    ] = 0.2,
    bands: Annotated[
        str | None,
        typer.Option(
            help="Names such as red,green,blue,nir, or red=3,green=2,blue=1.",
            show_default="all bands",
        ),
    ] = None,
    nodata: NoData = None,
    add: Annotated[
        bool, typer.Option("--add", help="Add the scene to a data set that exists.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a data set of two rasters and polygons of change, or of a reviewed map."""
    from ctma.adaptation.preparation import prepare_labels, prepare_reviewed
    from ctma.adaptation.settings import LabelSettings

    cutting = LabelSettings(tile=tile, holdout=holdout, add=add, bands=bands)
    with progress("Cutting tiles") as on_progress:
        if reviewed:
            refuse_options(context, _OF_POLYGONS, "is for polygons, not for decisions")
            if len(inputs) != 1:
                raise SettingError("with --reviewed, name the folder of the map alone")
            scene = prepare_reviewed(inputs[0], reviewed, output, cutting, on_progress=on_progress)
        else:
            if len(inputs) != 3:
                raise SettingError("name three files: BEFORE, AFTER and LABELS")
            settings = cutting.replace(
                where=where, extent=extent, all_touched=all_touched, nodata=nodata
            )
            before, after, source = inputs
            scene = prepare_labels(before, after, source, output, settings, on_progress=on_progress)
    if as_json:
        print_json(scene.as_dict())
        return
    _print(scene, all_touched)


def _print(scene: LabelledScene, all_touched: bool) -> None:
    if scene.polygons.read:
        rule = "that a polygon touches" if all_touched else "whose centre lies in a polygon"
        say(f"{scene.polygons}; change is each pixel {rule}")
    for split, (tiles, labelled, changed) in scene.splits.items():
        share = 100 * changed / max(labelled, 1)
        say(
            f"{split}: {counted(tiles, 'tile')}, {labelled / 1e6:.2f} million pixels with a label, "
            f"{share:.2f} % changed"
        )
    if scene.left_out:
        say(f"{counted(scene.left_out, 'tile')} left out: too near to held-out tiles")
    say(f"wrote {scene.folder}; bands {', '.join(scene.bands)}")


def _cut(dataset: str, source: Path, target: Path, split: str | None, seed: int) -> None:
    from ctma.data.preparation import prepare as run

    with progress(f"Cutting {dataset}") as on_progress:
        prepared = run(dataset, source, target, split=split, seed=seed, on_progress=on_progress)
    counts = ", ".join(f"{count} {name}" for name, count in prepared.pairs.items())
    say(f"{prepared.folder}: {counts}")

"""``ctma compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ctma.cli.commands.options import Json, ReplaceFile
from ctma.cli.output import print_json, progress, say, show
from ctma.errors import SettingError
from ctma.types import counted

if TYPE_CHECKING:
    from ctma.evaluation.records import KeptScore


def compare(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Two maps, or a map and a file of polygons; else runs, checkpoints or score files."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="For maps the folder to write; for runs a picture of their learning curves.",
            metavar="PATH",
        ),
    ] = None,
    most: Annotated[
        int, typer.Option(min=1, help="For maps: largest number of differences on the page.")
    ] = 500,
    overwrite: ReplaceFile = False,
    as_json: Json = False,
) -> None:
    """Compare two maps, or put the scores of runs, checkpoints and score files side by side."""
    if any(map(_is_of_maps, sources)):
        _compare_maps(sources, output, most, overwrite, as_json)
        return
    from ctma.evaluation.comparison import compare as run
    from ctma.files import refuse_existing

    if output is not None:
        refuse_existing(output, overwrite)
    scores = run(sources)
    if output is not None:
        _draw(output, sources)
    if as_json:
        print_json([score.as_dict() for score in scores])
        return
    _print(scores)
    if output is not None:
        say(f"wrote {output}")


def _is_of_maps(source: Path) -> bool:
    """Whether a source is a map, polygons, or masks of images; no run and no scores."""
    from ctma.scene.names import is_map

    polygons = {".gpkg", ".geojson", ".fgb", ".parquet", ".shp"}
    return is_map(source) or source.suffix in polygons or (source / "mask").is_dir()


def _compare_maps(
    sources: list[Path], output: Path | None, most: int, overwrite: bool, as_json: bool
) -> None:
    from ctma.review.comparison import compare_maps

    if len(sources) != 2 or output is None:
        raise SettingError("two maps are compared at a time, into a folder that `output` names")
    with progress("Writing pictures") as on_progress:
        found = compare_maps(
            sources[0],
            sources[1],
            output,
            most=most,
            overwrite=overwrite,
            on_progress=on_progress,
        )
    if as_json:
        print_json(found.as_dict())
        return
    table = Table("what became of changes", "number", "m2")
    for kind, number in found.counts.items():
        table.add_row(kind, str(number), f"{found.areas[kind]:.0f}")
    show(table)
    if found.outside:
        say(f"{counted(found.outside, 'change')} outside of the other map, not counted")
    pixels = found.pixels
    say(f"masks: {100 * pixels.share:.2f} % of the pixels alike, IoU {100 * pixels.iou:.2f} %")
    for path in found.files:
        say(f"wrote {path}")


def _print(scores: list[KeptScore]) -> None:
    table = Table("source", "network", "data", "split", "protocol")
    for name in ("threshold", "F1", "precision", "recall", "IoU", "epoch"):
        table.add_column(name, justify="right")
    for score in scores:
        labels = (score.source, score.network, score.data_name, score.split, score.protocol)
        threshold = "" if score.threshold is None else str(score.threshold)
        ratios = (
            f"{100 * one:.2f}" for one in (score.f1, score.precision, score.recall, score.iou)
        )
        table.add_row(*labels, threshold, *ratios, str(score.epoch or ""))
    show(table)


def _draw(output: Path, sources: list[Path]) -> None:
    from ctma.errors import DataError
    from ctma.figures.curves import save_curves
    from ctma.training.table import read_table

    lines = {str(source): read_table(source) for source in sources}
    runs = {name: table for name, table in lines.items() if table}
    if not runs:
        raise DataError(f"{', '.join(lines)}: no folder of a run that logged anything")
    save_curves(output, runs)

"""``ctma predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ctma.cli.commands.options import (
    Checkpoint,
    Device,
    FlipViews,
    Fusion,
    GroundSampleDistance,
    Json,
    Precision,
    Threshold,
    VideoLength,
    given,
)
from ctma.cli.output import print_json, progress, say, warn
from ctma.errors import MissingExtraError, SettingError

RASTERS_ONLY = (
    "bands", "scale", "grid", "min_area", "simplify", "polygon_format", "coregister", "workers",
    "cluster", "resume",
)  # fmt: skip


def predict(
    context: typer.Context,
    before: Annotated[str, typer.Argument(help="An image, a folder of images, or a raster.")],
    after: Annotated[str, typer.Argument(help="The same kind, at the later date.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder.", metavar="DIR")],
    checkpoint: Checkpoint = Path("ctma-s"),
    threshold: Threshold = None,
    protocol: Annotated[
        str, typer.Option(help="For images: auto, whole, crops or sliding.")
    ] = "auto",
    bands: Annotated[
        str | None, typer.Option(help="For rasters: 3,2,1.", show_default="the first ones")
    ] = None,
    scale: Annotated[
        str, typer.Option(help="For rasters: auto, or the stored values LOW,HIGH of 0 and 1.")
    ] = "auto",
    grid: Annotated[str, typer.Option(help="For rasters: before, after or finest.")] = "before",
    min_area: Annotated[
        float, typer.Option(min=0, help="For rasters: least area of a polygon, square metres.")
    ] = 0.0,
    simplify: Annotated[
        float, typer.Option(min=0, help="For rasters: pixels by which to simplify polygons.")
    ] = 0.0,
    polygon_format: Annotated[
        str, typer.Option("--format", help="For rasters: gpkg, geojson, fgb or parquet.")
    ] = "gpkg",
    coregister: Annotated[
        bool, typer.Option("--coregister", help="For rasters: take out the dates' shift.")
    ] = False,
    tta: FlipViews = False,
    gsd: GroundSampleDistance = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="For rasters: share the work among processes.")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(help="For rasters: a running dask scheduler.", metavar="tcp://HOST:PORT"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="For rasters: go on where a run into DIR stopped.")
    ] = False,
    fusion: Fusion = None,
    video_len: VideoLength = None,
    device: Device = "auto",
    precision: Precision = "32-true",
    as_json: Json = False,
) -> None:
    """Find what changed: a mask and a probability for each pair of images.

    Rasters with a CRS give a georeferenced change map and polygons instead.
    """
    from ctma.checkpoints import load_model
    from ctma.devices import find_device

    arguments = given(fusion=fusion, video_len=video_len)
    model = load_model(checkpoint, **arguments).to(find_device(device))
    if _are_scenes(before, after):
        from ctma.figures.scenes import save_scene
        from ctma.scene.overview import read_overview
        from ctma.scene.predict import predict_scene
        from ctma.scene.writing import PICTURE

        with progress("Predicting") as on_progress:
            result = predict_scene(
                before,
                after,
                model,
                output,
                bands=_numbers("--bands", bands, int),
                scale=_scale(scale),
                grid=grid,
                threshold=threshold,
                min_area=min_area,
                simplify=simplify,
                polygon_format=polygon_format,
                coregister=coregister,
                tta=tta,
                ground_sample_distance=gsd,
                workers=workers,
                cluster=cluster,
                resume=resume,
                precision=precision,
                on_progress=on_progress,
                on_warning=warn,
            )
        picture = output / PICTURE
        title = f"{Path(before).name} and {Path(after).name}"
        save_scene(picture, *read_overview(result), title=title)
        if as_json:
            print_json(result.summary)
        else:
            _print_scene(result.summary, result.probability, result.mask, result.changes, picture)
        return

    _refuse_raster_options(context, before)
    from ctma.models.views import FlipAverage
    from ctma.prediction import predict_files
    from ctma.resolution import coarseness_warning

    if line := coarseness_warning(model, gsd):
        warn(line)
    with progress("Predicting") as on_progress:
        results = predict_files(
            Path(before),
            Path(after),
            FlipAverage(model) if tta else model,
            output,
            on_done=on_progress,
            threshold=threshold,
            protocol_name=protocol,
            ground_sample_distance=gsd,
            precision=precision,
        )
    if as_json:
        print_json(results)
        return
    for one in results[:10]:
        say(f"{one['mask']}: {100 * one['changed_share']:.2f} % changed")
    say(f"{len(results)} masks in {output / 'mask'}, probabilities in {output / 'probability'}")


def _refuse_raster_options(context: typer.Context, before: str) -> None:
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        # By name, as some versions of typer bring their own click.
        if parameter.name in RASTERS_ONLY and source and source.name == "COMMANDLINE":
            raise SettingError(
                f"{parameter.opts[0]} is for rasters, and {before} is none with a CRS; leave it out"
            )


def _are_scenes(before: str, after: str) -> bool:
    """Whether at least one of two inputs has a CRS; rasters elsewhere than on disk count."""
    remote = any(
        path.startswith(("/vsi", "http://", "https://", "s3://")) for path in (before, after)
    )
    tiffs = any(Path(path).suffix.lower() in {".tif", ".tiff", ".vrt"} for path in (before, after))
    if not remote and not tiffs:
        return False
    try:
        from ctma.scene.predict import is_scene
    except ImportError as error:
        if remote:
            raise MissingExtraError(error.name or "rasterio", "scene") from error
        return False
    return remote or is_scene(before) or is_scene(after)


def _scale(text: str) -> tuple[float, float] | None:
    if text == "auto":
        return None
    numbers = _numbers("--scale", text, float)
    if numbers is None or len(numbers) != 2:
        raise SettingError(f"--scale {text}: expected auto, or two numbers such as 0,10000")
    return numbers[0], numbers[1]


def _numbers(option: str, text: str | None, kind: type) -> list[Any] | None:
    if text is None:
        return None
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise SettingError(f"{option} {text}: expected numbers with commas between") from error


def _print_scene(summary: dict[str, Any], *paths: Path) -> None:
    for date in ("before", "after"):
        outside = summary[date]["outside_share"]
        if outside > 0:
            say(f"{100 * outside:.2f} % of {date} lies outside the common grid")
    if (ratio := summary["enlargement"]) != 1:
        seen = f"enlarged {ratio:.2g}" if ratio > 1 else f"reduced {1 / ratio:.2g}"
        say(f"pixels of {summary['ground_sample_distance']:.3g} m: seen {seen} times")
    changes = summary["changes"]
    say(
        f"{changes} change{'s' * (changes != 1)}, {summary['changed_area_m2']:.0f} m2, "
        f"{100 * summary['changed_share']:.2f} % of the valid pixels"
    )
    for path in paths:
        say(f"wrote {path}")

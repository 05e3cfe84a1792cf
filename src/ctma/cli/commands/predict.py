"""``ctma predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctma.cli.commands.options import (
    RASTERS,
    SHARING,
    AverageViews,
    Bands,
    Checkpoint,
    Cluster,
    Coregister,
    Device,
    Doubt,
    Engine,
    Grid,
    GroundSampleDistance,
    IgnoreGeoreference,
    Json,
    MinArea,
    NoCache,
    NoData,
    NoDataAny,
    Overwrite,
    PolygonFormat,
    Precision,
    ResumeScene,
    Scale,
    Simplify,
    Threshold,
    Top,
    Workers,
    refuse_options,
)
from ctma.cli.output import print_json, progress, say
from ctma.errors import SettingError
from ctma.scene.names import PROJECT, SUMMARY
from ctma.types import BEST_SHIPPED, counted

if TYPE_CHECKING:
    from ctma.inference.batch import FilePrediction
    from ctma.inference.running import BasePredictor, Running
    from ctma.models.usage import Usage
    from ctma.scene.files import Scene
    from ctma.scene.predict import SceneResult
    from ctma.scene.settings import SceneSettings

SHOWN = 10


def predict(
    context: typer.Context,
    before: Annotated[str, typer.Argument(help="An image, a folder of images, or a raster.")],
    after: Annotated[str, typer.Argument(help="The same kind of input, at the later date.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder to write.", metavar="DIR")
    ],
    checkpoint: Checkpoint = Path(BEST_SHIPPED),
    threshold: Threshold = None,
    protocol: Annotated[
        str, typer.Option(help="For images: auto, whole, crops or sliding.")
    ] = "auto",
    tta: AverageViews = False,
    gsd: GroundSampleDistance = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "auto",
    no_cache: NoCache = False,
    ignore_georeference: IgnoreGeoreference = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
    bands: Bands = None,
    scale: Scale = "auto",
    nodata: NoData = None,
    nodata_any: NoDataAny = False,
    grid: Grid = "before",
    min_area: MinArea = 0.0,
    simplify: Simplify = 0.0,
    polygon_format: PolygonFormat = "gpkg",
    coregister: Coregister = False,
    top: Top = 0,
    doubt: Doubt = False,
    workers: Workers = None,
    cluster: Cluster = None,
    resume: ResumeScene = False,
) -> None:
    """Find what changed: a mask and a probability for each pair of images.

    Two rasters with a CRS give a map with polygons instead. Two folders of such rasters give one
    map for each pair.
    """
    from ctma.inference.ready import keep_ready
    from ctma.scene.files import find_scenes

    # Before torch, which takes seconds to load: what is not there is said at once.
    scenes = find_scenes(before, after, ignore_georeference=ignore_georeference)
    _check_options(context, bool(scenes), before)
    # Older versions of typer give paths as texts there.
    options = context.params | {"output": Path(output), "cache": not no_cache}
    predictor, running = _load(checkpoint, options)
    if not as_json:
        say(str(predictor))
    if scenes:
        _predict_scenes(predictor, scenes, options)
    else:
        _predict_images(predictor, options)
    keep_ready(predictor, running)


def _load(checkpoint: Path, options: dict[str, Any]) -> tuple[BasePredictor, Running]:
    """A predictor that loads no torch where the cache allows, and how it was asked to run."""
    from ctma.inference.ready import find_ready
    from ctma.inference.running import Running

    names = ("engine", "precision", "device", "tta", "cache")
    running = Running(**{name: options[name] for name in names})
    # Workers elsewhere have caches of their own.
    if options["cluster"] is None and (ready := find_ready(checkpoint, running)):
        return ready, running
    try:
        from ctma.inference.predictor import load
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise SettingError(
            "torch is not installed: only an exported .onnx or .xml runs without it, with the "
            "engine, precision and device of its file, and not on a `cluster`"
        ) from error
    return load(checkpoint, **dict(running)), running


def _check_options(context: typer.Context, of_scenes: bool, before: Any) -> None:
    if of_scenes:
        refuse_options(context, {"protocol"}, f"is for images, and {before} is a raster")
        return
    of_rasters = {
        parameter.name
        for parameter in context.command.params
        if getattr(parameter, "rich_help_panel", None) in (RASTERS, SHARING)
    }
    refuse_options(context, of_rasters, f"is for rasters, and {before} is none with a CRS")


def _predict_scenes(predictor: BasePredictor, scenes: list[Scene], options: dict[str, Any]) -> None:
    results = []
    for scene in scenes:
        result = _predict_scene(predictor, scene, options)
        results.append({"name": scene.name, **result.summary})
        if options["as_json"]:
            continue
        if scene.name:
            say(f"{scene.name}:")
        _print_summary(result.summary, predictor.usage)
        files = (
            result.probability, result.mask, result.changes, result.doubt, result.picture,
            result.largest,
        )  # fmt: skip
        for path in (*files, *(result.mask.with_name(name) for name in (PROJECT, SUMMARY))):
            if path is not None:
                say(f"wrote {path}")
    if options["as_json"]:
        print_json(results if scenes[0].name else result.summary)


def _predict_scene(predictor: BasePredictor, scene: Scene, options: dict[str, Any]) -> SceneResult:
    from ctma.scene.predict import predict_scene

    with progress(f"Predicting {scene.name}".rstrip()) as on_progress:
        return predict_scene(
            scene.before,
            scene.after,
            predictor,
            options["output"] / scene.name,
            _scene_settings(options),
            workers=options["workers"],
            cluster=options["cluster"],
            resume=options["resume"],
            overwrite=options["overwrite"],
            on_progress=on_progress,
        )


def _scene_settings(options: dict[str, Any]) -> SceneSettings:
    from ctma.scene.settings import SceneSettings

    alike = (
        "nodata", "nodata_any", "grid", "threshold", "min_area", "simplify", "polygon_format",
        "coregister", "top", "doubt",
    )  # fmt: skip
    return SceneSettings(
        bands=_bands(options["bands"]),
        scale=_scale(options["scale"]),
        ground_sample_distance=options["gsd"],
        **{name: options[name] for name in alike},
    )


def _predict_images(predictor: BasePredictor, options: dict[str, Any]) -> None:
    from ctma.inference.images import predict_files
    from ctma.inference.resolution import check_given_distance, find_enlargement

    usage, distance = predictor.usage, options["gsd"]
    check_given_distance(usage, distance)  # the ratio divides by the distance
    if not options["as_json"]:
        _say_distance(usage, distance, find_enlargement(usage, distance))
    with progress("Predicting") as on_progress:
        results = predict_files(
            options["before"],
            options["after"],
            predictor,
            options["output"],
            threshold=options["threshold"],
            protocol=options["protocol"],
            ground_sample_distance=distance,
            overwrite=options["overwrite"],
            on_progress=on_progress,
        )
    if options["as_json"]:
        print_json([result.as_dict() for result in results])
        return
    _print_results(results, options["output"])


def _print_results(results: list[FilePrediction], output: Path) -> None:
    for result in results[:SHOWN]:
        say(f"{result.mask}: {100 * result.changed_share:.2f} % changed")
    folders = (output / kind for kind in ("mask", "probability"))
    say("{} in {}, probabilities in {}".format(counted(len(results), "mask"), *folders))


def _scale(text: str) -> tuple[float, float] | None:
    if text == "auto":
        return None
    numbers = _numbers("scale", text, float)
    if numbers is None or len(numbers) != 2:
        raise SettingError(f"`scale` {text}: expected auto, or two numbers such as 0,10000")
    return numbers[0], numbers[1]


def _bands(text: str | None) -> tuple[Any, ...] | None:
    """One list of numbers, or one for each date."""
    lists = [_numbers("bands", part, int) for part in (text or "").split(":")] if text else []
    if len(lists) > 2:
        raise SettingError(f"`bands` {text}: expected numbers such as 3,2,1, or 3,2,1:1,2,3")
    return tuple(lists) if len(lists) == 2 else next(iter(lists), None)


def _numbers(option: str, text: str | None, kind: type) -> tuple[Any, ...] | None:
    if text is None:
        return None
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError as error:
        raise SettingError(f"`{option}` {text}: expected numbers with commas between") from error


def _say_distance(usage: Usage, distance: float | None, ratio: float) -> None:
    """Says how pairs are resized, or which distance is assumed where none is known."""
    if distance is None and usage.ground_sample_distance is not None:
        assumed = usage.ground_sample_distance
        say(f"metres a pixel not known: {assumed:g} is assumed; say yours with --gsd")
    elif ratio != 1:
        seen = f"enlarged {ratio:.2g}" if ratio > 1 else f"reduced {1 / ratio:.2g}"
        say(f"pixels of {distance:.3g} m: seen {seen} times")


def _print_summary(summary: dict[str, Any], usage: Usage) -> None:
    for date in ("before", "after"):
        bands = summary[date]["bands"]
        if bands != [*range(1, len(bands) + 1)]:
            say(f"bands of {date}: {', '.join(map(str, bands))}")
        outside = summary[date]["outside_share"]
        if outside > 0:
            say(f"{100 * outside:.2f} % of {date} lies outside the common grid")
    _say_distance(usage, summary["ground_sample_distance"], summary["enlargement"])
    if summary["coregistered"]:
        shift = summary["shift_pixels"]
        say(f"shift taken out: {shift['columns']:+.1f} columns, {shift['rows']:+.1f} rows")
    changes = summary["changes"]
    say(
        f"{counted(changes, 'change')}, {summary['changed_area_m2']:.0f} m2, "
        f"{100 * summary['changed_share']:.2f} % of the valid pixels"
    )

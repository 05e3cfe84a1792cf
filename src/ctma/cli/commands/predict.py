"""``ctma predict``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ctma.cli.commands.options import (
    RASTERS,
    Bands,
    Checkpoint,
    Cluster,
    Coregister,
    Device,
    Engine,
    FlipViews,
    Fusion,
    Grid,
    GroundSampleDistance,
    Json,
    MinArea,
    NoCache,
    NoData,
    Overwrite,
    PolygonFormat,
    Precision,
    ResumeScene,
    Scale,
    Simplify,
    Threshold,
    VideoLength,
    Workers,
    keep_given,
    refuse_options,
)
from ctma.cli.output import print_json, progress, say, warn
from ctma.errors import SettingError
from ctma.types import BEST_SHIPPED, IMAGE_BANDS, counted

if TYPE_CHECKING:
    from ctma.inference.engines.engine import Engine as Prepared
    from ctma.models.base import ChangeNetwork
    from ctma.scene.predict import SceneResult
    from ctma.scene.settings import SceneSettings

SHOWN = 10


def predict(
    context: typer.Context,
    before: Annotated[str, typer.Argument(help="An image, a folder of images, or a raster.")],
    after: Annotated[str, typer.Argument(help="The same kind, at the later date.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder.", metavar="DIR")],
    checkpoint: Checkpoint = Path(BEST_SHIPPED),
    threshold: Threshold = None,
    protocol: Annotated[
        str, typer.Option(help="For images: auto, whole, crops or sliding.")
    ] = "auto",
    tta: FlipViews = False,
    gsd: GroundSampleDistance = None,
    fusion: Fusion = None,
    video_len: VideoLength = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "auto",
    no_cache: NoCache = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
    bands: Bands = None,
    scale: Scale = "auto",
    nodata: NoData = None,
    grid: Grid = "before",
    min_area: MinArea = 0.0,
    simplify: Simplify = 0.0,
    polygon_format: PolygonFormat = "gpkg",
    coregister: Coregister = False,
    workers: Workers = None,
    cluster: Cluster = None,
    resume: ResumeScene = False,
) -> None:
    """Find what changed: a mask and a probability for each pair of images.

    Rasters with a CRS give a map and polygons instead, those of folders one a pair.
    """
    # Before torch, which takes seconds to load: what is not there is said at once.
    scenes = _find_scenes(before, after)
    try:
        from ctma.checkpoints.store import load_telling
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        _predict_without_torch(context, bool(scenes))
        return
    from ctma.devices import find_device
    from ctma.inference.engines.choice import prepare

    _check_options(context, bool(scenes), before)
    arguments = keep_given(fusion=fusion, video_len=video_len)
    model = load_telling(checkpoint, arguments, warn).to(find_device(device))
    # Older versions of typer give paths as texts there.
    options = context.params | {"output": output, "cache": not no_cache}
    if not as_json:
        say(_describe_engine(prepare(model, engine, precision, keep=not no_cache)))
    if scenes:
        _predict_scenes(model, scenes, options)
    else:
        _predict_images(model, options)


def _check_options(context: typer.Context, of_scenes: bool, before: Any) -> None:
    if of_scenes:
        refuse_options(context, {"protocol"}, f"is for images, and {before} is a raster")
        return
    of_rasters = {
        parameter.name
        for parameter in context.command.params
        if getattr(parameter, "rich_help_panel", None) == RASTERS
    }
    refuse_options(context, of_rasters, f"is for rasters, and {before} is none with a CRS")


_WITHOUT_TORCH = {
    "before", "after", "output", "checkpoint", "threshold", "protocol", "overwrite", "as_json",
}  # fmt: skip
"""What can be said where torch is not installed."""


def _predict_without_torch(context: typer.Context, of_scenes: bool) -> None:
    from ctma.inference.batch import predict_pairs
    from ctma.inference.exported import is_exported, predict_exported, read_exported

    options = context.params | {"output": Path(context.params["output"])}
    if not is_exported(options["checkpoint"]):
        raise SettingError("torch is not installed: only an exported .onnx or .xml runs without it")
    refuse_options(context, options.keys() - _WITHOUT_TORCH, "needs torch, which is not installed")
    if of_scenes:
        raise SettingError(f"{options['before']}: a map of rasters needs torch")
    model = read_exported(options["checkpoint"])
    if model.description.bands != IMAGE_BANDS:
        raise SettingError(f"the model takes {', '.join(model.description.bands)}, no images")
    run = partial(
        predict_exported,
        model=model,
        session=model.open()(),
        threshold=options["threshold"],
        protocol=options["protocol"],
    )
    with progress("Predicting") as on_progress:
        results = predict_pairs(
            Path(options["before"]),
            Path(options["after"]),
            options["output"],
            run,
            {
                "engine": model.runtime,
                "precision": model.description.precision,
                "engine_why": model.why,
            },
            overwrite=options["overwrite"],
            on_done=on_progress,
        )
    _print_results(results, options)


def _describe_engine(prepared: Prepared) -> str:
    why = f": {prepared.why}" if prepared.why else ""
    return f"engine {prepared.engine}, {prepared.precision}{why}"


def _predict_scenes(model: ChangeNetwork, scenes: list[Scene], options: dict[str, Any]) -> None:
    results = []
    for scene in scenes:
        result = _predict_scene(model, scene, options)
        results.append({"name": scene.name, **result.summary})
        if options["as_json"]:
            continue
        if scene.name:
            say(f"{scene.name}:")
        _print_summary(result.summary)
        files = (result.probability, result.mask, result.changes, result.picture)
        for path in (*files, result.probability.with_name("summary.json")):
            if path is not None:
                say(f"wrote {path}")
    if options["as_json"]:
        print_json(results if scenes[0].name else result.summary)


def _predict_scene(model: ChangeNetwork, scene: Scene, options: dict[str, Any]) -> SceneResult:
    from ctma.scene.predict import predict_scene

    with progress(f"Predicting {scene.name}".rstrip()) as on_progress:
        return predict_scene(
            scene.before,
            scene.after,
            model,
            options["output"] / scene.name,
            _scene_settings(options),
            workers=options["workers"],
            cluster=options["cluster"],
            resume=options["resume"],
            overwrite=options["overwrite"],
            on_progress=on_progress,
            on_warning=warn,
        )


def _scene_settings(options: dict[str, Any]) -> SceneSettings:
    from ctma.scene.settings import SceneSettings

    alike = (
        "nodata", "grid", "threshold", "min_area", "simplify", "polygon_format", "coregister",
        "tta", "engine", "precision", "cache",
    )  # fmt: skip
    return SceneSettings(
        bands=_bands(options["bands"]),
        scale=_scale(options["scale"]),
        ground_sample_distance=options["gsd"],
        **{name: options[name] for name in alike},
    )


def _predict_images(model: ChangeNetwork, options: dict[str, Any]) -> None:
    from ctma.inference.images import predict_files
    from ctma.inference.resolution import coarseness_warning

    if line := coarseness_warning(model, options["gsd"]):
        warn(line)
    alike = ("threshold", "protocol", "tta", "engine", "precision", "cache")
    with progress("Predicting") as on_progress:
        results = predict_files(
            Path(options["before"]),
            Path(options["after"]),
            model,
            options["output"],
            overwrite=options["overwrite"],
            on_done=on_progress,
            ground_sample_distance=options["gsd"],
            **{name: options[name] for name in alike},
        )
    _print_results(results, options)


def _print_results(results: list[dict[str, Any]], options: dict[str, Any]) -> None:
    if options["as_json"]:
        print_json(results)
        return
    for one in results[:SHOWN]:
        say(f"{one['mask']}: {100 * one['changed_share']:.2f} % changed")
    folders = (options["output"] / kind for kind in ("mask", "probability"))
    say("{} in {}, probabilities in {}".format(counted(len(results), "mask"), *folders))


PLAIN = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
"""Images that know their place only by a file beside them."""

REMOTE = ("/vsi", "http://", "https://", "s3://")
"""How rasters begin that are elsewhere than on disk, or in an archive."""


class Scene(NamedTuple):
    """Two rasters; those of folders have their name, which is their output's folder too."""

    name: str
    before: str
    after: str


def _find_scenes(before: str, after: str) -> list[Scene]:
    """The rasters to be mapped; none where the inputs are images."""
    from ctma.inference.batch import check_there, find_partners

    local = [Path(path) for path in (before, after) if not path.startswith(REMOTE)]
    if len(local) < 2:
        check_there(*local)
        return [Scene("", before, after)]
    pairs = find_partners(Path(before), Path(after))
    if not Path(before).is_dir():
        return [Scene("", before, after)] if _are_scenes(before, after) else []
    found = [Scene(pair.name, str(pair.before), str(pair.after)) for pair in pairs]
    scenes = [scene for scene in found if _are_scenes(scene.before, scene.after)]
    if scenes and len(scenes) < len(found):
        (odd, *_) = (scene for scene in found if scene not in scenes)
        raise SettingError(
            f"{odd.before}: has no CRS, but {scenes[0].before} has one; give images and rasters "
            "apart"
        )
    return scenes


def _are_scenes(before: str, after: str) -> bool:
    """Whether at least one of two files has a CRS."""
    asked = [path for path in (before, after) if not _is_plain(Path(path))]
    if not asked:
        return False
    try:
        from ctma.scene.georeference import find_georeference
    except ImportError:
        return False
    found = {path: find_georeference(path) for path in asked}
    if any(one.scene for one in found.values()):
        return True
    for path, one in found.items():
        if one.lost:
            warn(f"{path}: has {one.lost}, which the outputs will not have; gdalwarp makes a map")
    return False


def _is_plain(path: Path) -> bool:
    beside = (path.with_name(f"{path.name}.aux.xml"), *path.parent.glob(f"{path.stem}.?[gp]w"))
    return path.suffix.lower() in PLAIN and not any(file.is_file() for file in beside)


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


def _print_summary(summary: dict[str, Any]) -> None:
    for date in ("before", "after"):
        bands = summary[date]["bands"]
        if bands != [*range(1, len(bands) + 1)]:
            say(f"bands of {date}: {', '.join(map(str, bands))}")
        outside = summary[date]["outside_share"]
        if outside > 0:
            say(f"{100 * outside:.2f} % of {date} lies outside the common grid")
    if (ratio := summary["enlargement"]) != 1:
        seen = f"enlarged {ratio:.2g}" if ratio > 1 else f"reduced {1 / ratio:.2g}"
        say(f"pixels of {summary['ground_sample_distance']:.3g} m: seen {seen} times")
    if summary["coregistered"]:
        shift = summary["shift_pixels"]
        say(f"shift taken out: {shift['columns']:+.1f} columns, {shift['rows']:+.1f} rows")
    changes = summary["changes"]
    say(
        f"{counted(changes, 'change')}, {summary['changed_area_m2']:.0f} m2, "
        f"{100 * summary['changed_share']:.2f} % of the valid pixels"
    )

"""A demo on synthetic pairs in a few minutes: train, score, predict and draw."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from ctma.data.synthetic import synthetic_pair, write_synthetic
from ctma.errors import OutputError
from ctma.evaluation.records import ScoreRecord
from ctma.evaluation.report import evaluate
from ctma.evaluation.scoring import Scoring
from ctma.inference.images import predict_files
from ctma.training.run import train
from ctma.types import BEST_SHIPPED, Progress, ignore

COUNTS = {"train": 320, "val": 24, "test": 48}
SIZE = 128
STEPS = 5
"""Steps of the demo: draw pairs, train, score, predict, map a scene."""
SCENE_SIZE, SCENE_SEED = 512, 1
SCENE_PIXEL = 0.5
"""Side of a pixel, in metres."""


@dataclass(frozen=True)
class DemoResult:
    """The results of a demo.

    Attributes:
        record: The score on held-out pairs.
        checkpoint: The trained weights.
        mask: The mask of one held-out pair.
        sheet: Pictures of held-out pairs.
        seconds: Seconds that the whole demo took.
        scene: The results of the shipped weights on a georeferenced pair; ``None`` where the
            extra ``scene`` is not installed.
    """

    record: ScoreRecord
    checkpoint: Path
    mask: Path
    sheet: Path
    seconds: float
    scene: DemoScene | None


@dataclass(frozen=True)
class DemoScene:
    """The demo's results on a georeferenced pair.

    Attributes:
        folder: GeoTIFFs, polygons and summary.
        picture: Both dates, probability and polygons.
        changes: Number of polygons.
        found: Share of the truly changed pixels that the mask marks as change, in [0, 1].
        page: The review page, to open in a browser.
    """

    folder: Path
    picture: Path
    changes: int
    found: float
    page: Path


def run_demo(output: str | Path, on_progress: Progress = ignore) -> DemoResult:
    """Makes synthetic pairs, trains CTMA-S on them, scores the result, predicts and draws.

    At the end, the shipped weights predict a georeferenced synthetic pair, and a review page of the
    result is written.

    Args:
        output: A folder that does not exist yet.
        on_progress: Called after each step with the number of finished steps and of all.

    Raises:
        OutputError: If the folder exists or cannot be written.
    """
    start = time.monotonic()
    output = Path(output)
    if output.exists():
        raise OutputError(f"{output}: exists already; name a new folder")
    data = output / "data"
    write_synthetic(data, COUNTS, size=SIZE)
    on_progress(1, STEPS)
    trained = train("demo/ctma-s", data, output / "run", precision="auto")
    on_progress(2, STEPS)
    figures = output / "figures"
    result = evaluate(trained.best, data, "test", Scoring(protocol="whole"), figures=figures)
    on_progress(3, STEPS)
    pair = data / "test"
    predicted = predict_files(
        pair / "A/test_0000.png",
        pair / "B/test_0000.png",
        trained.best,
        output / "prediction",
    )
    on_progress(4, STEPS)
    scene = _predict_scene(output / "scene")
    on_progress(STEPS, STEPS)
    return DemoResult(
        record=result.record,
        checkpoint=trained.best,
        mask=predicted[0].mask,
        sheet=next(file for file in result.files if file.suffix == ".png"),
        scene=scene,
        seconds=time.monotonic() - start,
    )


def _predict_scene(folder: Path) -> DemoScene | None:
    try:
        import rasterio
        from rasterio.transform import from_origin

        from ctma.review.page import write_review
        from ctma.scene.predict import predict_scene
    except ImportError:
        return None
    folder.mkdir(parents=True)
    before, after, change = synthetic_pair(SCENE_SIZE, SCENE_SEED)
    paths = [folder / "before.tif", folder / "after.tif"]
    for path, image in zip(paths, (before, after), strict=True):
        with rasterio.open(
            path, "w", driver="GTiff", dtype="uint8", count=3, width=SCENE_SIZE,
            height=SCENE_SIZE, crs="EPSG:32643", photometric="RGB", compress="deflate",
            transform=from_origin(500_000, 3_200_000, SCENE_PIXEL, SCENE_PIXEL),
        ) as raster:  # fmt: skip
            raster.write(image.transpose(2, 0, 1))
    result = predict_scene(paths[0], paths[1], BEST_SHIPPED, folder / "found")
    with rasterio.open(result.mask) as raster:
        recall = float((raster.read(1)[change == 1] == 1).mean())
    assert result.picture is not None
    page = write_review(folder / "found").path
    return DemoScene(folder / "found", result.picture, result.summary["changes"], recall, page)

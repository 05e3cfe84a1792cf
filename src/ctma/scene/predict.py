"""From two rasters to a change map: the run from plan to summary."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
import torch
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from ctma.errors import CtmaError, SettingError, UnknownNameError
from ctma.files import check_writable, sole_run, spread_fingerprint, write_json
from ctma.models import ChangeNetwork
from ctma.models.blocks import fused
from ctma.models.views import FlipAverage, enlarged
from ctma.resolution import check_given_distance, coarseness_warning
from ctma.scene.blending import Tiling
from ctma.scene.grid import Grid
from ctma.scene.plan import Date, Plan, make_plan
from ctma.scene.registration import NOTABLE
from ctma.scene.source import raster_settings
from ctma.scene.store import Store, discard
from ctma.scene.strips import blend
from ctma.scene.windows import Cluster, Local, ahead, connect
from ctma.scene.writing import DRIVERS, RASTERS, SUMMARY, PolygonSettings, write_scene

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SceneResult:
    """What a prediction over a scene leaves behind.

    Attributes:
        probability: Change probability, 0 to 250, nodata 255, a COG.
        mask: 1 where it exceeds the threshold, nodata 255, a COG.
        changes: One polygon a change.
        summary: The same as ``summary.json``.
        plan: How both dates were read.
    """

    probability: Path
    mask: Path
    changes: Path
    summary: dict[str, Any]
    plan: Plan


def predict_scene(
    before: str | Path,
    after: str | Path,
    model: ChangeNetwork,
    output: str | Path,
    *,
    bands: Sequence[int] | None = None,
    scale: tuple[float, float] | None = None,
    grid: str = "before",
    threshold: float | None = None,
    min_area: float = 0.0,
    simplify: float = 0.0,
    polygon_format: str = "gpkg",
    tiling: Tiling | None = None,
    coregister: bool = False,
    tta: bool = False,
    ground_sample_distance: float | None = None,
    precision: str = "32-true",
    workers: int | None = None,
    cluster: str | None = None,
    resume: bool = False,
    on_progress: Progress = lambda done, total: None,
    on_warning: Callable[[str], None] = lambda line: None,
) -> SceneResult:
    """Finds what changed between two georeferenced rasters.

    Both are warped on the fly onto one grid over their intersection, scaled by one scaling
    a date, seen in overlapping windows, and blended by weights that sum to one.

    Args:
        before: A raster: a file, a URL of a COG, or a ``/vsi…`` path.
        after: A raster that overlaps it, in any CRS and resolution.
        model: A network, as from ``load_model``; it runs on the device it is on.
        output: A folder; gets ``probability.tif``, ``mask.tif``, ``changes.*`` and
            ``summary.json``.
        bands: Band numbers from 1, for both dates; the first ones by default.
        scale: Stored values that become 0 and 1; found for each date by default.
        grid: Whose pixels are kept: ``before``, ``after`` or ``finest``.
        threshold: Change is where the probability exceeds it; the checkpoint's by default.
        min_area: Square metres below which a change is no polygon.
        simplify: Pixels by which polygons may be simplified.
        polygon_format: ``gpkg``, ``geojson``, ``fgb`` or ``parquet``.
        tiling: How windows lie, in pixels that the network sees.
        coregister: Take out the shift between the dates.
        tta: Average over flipped views; takes four times as long.
        ground_sample_distance: Metres a pixel, by default as the grid has it. The network
            sees the scene enlarged or reduced to the distance it was trained at.
        precision: ``"32-true"`` or ``"bf16-mixed"``.
        workers: Share the work among as many processes, through dask.
        cluster: Share the work with a running dask cluster: its scheduler's address. The
            workers must see the rasters under the same paths.
        resume: Go on where an interrupted run into this folder stopped.
        on_progress: Called after every window with how many are done, and of how many.
        on_warning: Called with a line where the dates are shifted by more than a pixel, or
            pixels are too coarse for the network.

    Raises:
        SceneError: If the rasters cannot be compared or read.
        SettingError: If a setting is out of range, or another run is to be resumed.
        OutputError: If the folder cannot be written.
    """
    _check_settings(polygon_format, scale, workers, cluster)
    _check_ranges(threshold, min_area, simplify)
    check_given_distance(model, ground_sample_distance)
    start = time.monotonic()
    output = Path(output)
    if threshold is None:
        threshold = model.header.threshold if model.header else 0.5
    with (
        raster_settings(str(before), str(after)),
        ThreadPoolExecutor(2) as threads,
        ExitStack() as stack,
    ):
        fingerprints = [threads.submit(_input_fingerprint, path) for path in (before, after)]
        plan, findings = make_plan(
            _address(before),
            _address(after),
            model,
            bands=bands,
            scale=scale,
            grid=grid,
            threshold=threshold,
            tiling=tiling or Tiling(),
            coregister=coregister,
            precision=precision,
            ground_sample_distance=ground_sample_distance,
        )
        if not coregister and findings.shift.length > NOTABLE:
            on_warning(
                f"the dates are shifted by {findings.shift.length:.1f} pixels "
                f"({findings.shift.columns:+.1f} columns, {findings.shift.rows:+.1f} rows); "
                "add --coregister"
            )
        if line := coarseness_warning(model, findings.ground_sample_distance):
            on_warning(line)
        planned = time.monotonic()
        how = PolygonSettings(min_area, simplify, polygon_format)
        network = enlarged(model, plan.enlargement)
        network = FlipAverage(network) if tta else network
        identity = plan.identity(network, repr(how))
        if resume and (finished := _finished(output, identity, polygon_format)):
            discard(output, identity)
            return _result(output, polygon_format, finished, plan)
        check_writable(output / SUMMARY)
        stack.enter_context(sole_run(output))
        store = Store(output, identity, resume)
        network = fused(network)
        predictor: Local | Cluster = Local(plan, network)
        if workers is not None or cluster is not None:
            client = stack.enter_context(connect(workers, cluster))
            predictor = Cluster(plan, network, client)
        try:
            with (
                closing(blend(plan, store, predictor, on_progress)) as blended,
                closing(ahead(blended)) as strips,
            ):
                counts = write_scene(strips, plan.grid, store, output, how)
        except CtmaError as error:
            raise _resumable(error, store) from error
        summary = {
            "before": _input_summary(
                plan.before, fingerprints[0].result(), findings.overlap.outside_before
            ),
            "after": _input_summary(
                plan.after, fingerprints[1].result(), findings.overlap.outside_after
            ),
            "grid": _grid_summary(plan.grid),
            "ground_sample_distance": findings.ground_sample_distance,
            "enlargement": plan.enlargement,
            "shift_pixels": {
                "columns": round(findings.shift.columns, 2),
                "rows": round(findings.shift.rows, 2),
            },
            "coregistered": coregister,
            "threshold": threshold,
            **counts,
            "seconds": {
                "plan": round(planned - start, 2),
                "run": round(time.monotonic() - planned, 2),
            },
            "versions": _versions(),
            "identity": identity,
        }
        write_json(output / SUMMARY, summary)
        store.remove()
    return _result(output, polygon_format, summary, plan)


def is_scene(path: str | Path) -> bool:
    """Whether a path is a raster with a CRS."""
    if Path(path).is_dir():
        return False
    try:
        # A TIFF without a CRS is an answer here, not a reason to warn.
        with (
            warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
            rasterio.open(path) as raster,
        ):
            return raster.crs is not None
    except RasterioError:
        return False


def _check_settings(
    polygon_format: str,
    scale: tuple[float, float] | None,
    workers: int | None,
    cluster: str | None,
) -> None:
    if polygon_format not in DRIVERS:
        raise UnknownNameError("polygon format", polygon_format, DRIVERS)
    if scale is not None and not -math.inf < scale[0] < scale[1] < math.inf:
        raise SettingError(
            f"--scale {scale[0]},{scale[1]}: the first must be below the second, both finite"
        )
    if workers is not None and workers < 1:
        raise SettingError(f"--workers {workers}: at least 1")
    if workers is not None and cluster is not None:
        raise SettingError("--workers starts a cluster, --cluster uses a running one: give one")


def _check_ranges(threshold: float | None, min_area: float, simplify: float) -> None:
    if threshold is not None and not 0 <= threshold <= 1:
        raise SettingError(f"--threshold {threshold}: between 0 and 1")
    for name, value in (("--min-area", min_area), ("--simplify", simplify)):
        if not 0 <= value < math.inf:
            raise SettingError(f"{name} {value}: finite, and not below 0")


def _address(path: str | Path) -> str:
    """An absolute path, so that it holds on workers started elsewhere; others as they are."""
    return str(Path(path).resolve()) if Path(path).exists() else str(path)


def _resumable(error: CtmaError, store: Store) -> CtmaError:
    """The error, with a word on what is kept; where nothing is, nothing is left behind."""
    if store.empty:
        store.remove()
        return error
    return type(error)(f"{error}; what is finished is kept: mend this, then add --resume")


def _finished(output: Path, identity: str, polygon_format: str) -> dict[str, Any] | None:
    """The summary of an equal run that came to its end, if it is there."""
    path = output / SUMMARY
    names = [*RASTERS, f"changes.{polygon_format}"]
    if not path.is_file() or not all((output / name).is_file() for name in names):
        return None
    try:
        summary = json.loads(path.read_text())
    except ValueError:
        return None
    return summary if summary.get("identity") == identity else None


def _result(output: Path, polygon_format: str, summary: dict[str, Any], plan: Plan) -> SceneResult:
    probability, mask = (output / name for name in RASTERS)
    return SceneResult(probability, mask, output / f"changes.{polygon_format}", summary, plan)


def _input_fingerprint(path: str | Path) -> str | None:
    """Of a file's content, of a large one's parts; other addresses have none."""
    return spread_fingerprint(path) if Path(path).is_file() else None


def _input_summary(date: Date, fingerprint: str | None, outside: float) -> dict[str, Any]:
    return {
        "path": date.path,
        "fingerprint": fingerprint,
        "bands": list(date.bands),
        "outside_share": round(outside, 6),
        "scaling": {"low": list(date.scaling.low), "high": list(date.scaling.high)},
    }


def _grid_summary(grid: Grid) -> dict[str, Any]:
    return {
        "crs": grid.crs.to_string(),
        "transform": list(grid.transform)[:6],
        "width": grid.width,
        "height": grid.height,
    }


def _versions() -> dict[str, str]:
    from ctma import __version__

    return {
        "ctma": __version__,
        "torch": torch.__version__,
        "rasterio": rasterio.__version__,
        "gdal": rasterio.__gdal_version__,
    }

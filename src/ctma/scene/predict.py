"""From two rasters to a change map: the run from plan to summary."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import rasterio
import torch

from ctma._version import __version__
from ctma.errors import CtmaError, SettingError, first_line
from ctma.files import check_writable, sole_run, spread_fingerprint, write_json
from ctma.inference.engines.choice import prepare
from ctma.inference.engines.engine import Engine
from ctma.inference.resolution import check_given_distance, coarseness_warning
from ctma.inference.views import evaluating, look_as
from ctma.models.base import ChangeNetwork
from ctma.scene.grid import Grid, metres_a_unit
from ctma.scene.identity import Identity, describe_run, find_differences, identify
from ctma.scene.overview import draw_overview
from ctma.scene.plan import Date, Findings, Plan, make_plan
from ctma.scene.rasters import raster_settings
from ctma.scene.registration import NOTABLE
from ctma.scene.settings import SceneSettings
from ctma.scene.store import Store, discard, holds
from ctma.scene.strips import blend
from ctma.scene.windows import Cluster, Local, ahead, connect
from ctma.scene.writing import PICTURE, RASTERS, SUMMARY, check_format, check_outputs, write_scene
from ctma.settings import change_settings, check_count
from ctma.types import Pixels, Progress, Say, ignore


@dataclass(frozen=True)
class SceneResult:
    """What a prediction over a scene leaves behind.

    Attributes:
        probability: Change probability, 0 to 250, nodata 255, a COG.
        mask: 1 where it exceeds the threshold, nodata 255, a COG.
        changes: One polygon a change.
        summary: The same as ``summary.json``.
        plan: How both dates were read.
        picture: Both dates, probability and polygons, a PNG; ``None`` where none was drawn.
    """

    probability: Path
    mask: Path
    changes: Path
    summary: dict[str, Any]
    plan: Plan
    picture: Path | None


def predict_scene(
    before: str | Path,
    after: str | Path,
    model: ChangeNetwork,
    output: str | Path,
    settings: SceneSettings | None = None,
    *,
    workers: int | None = None,
    cluster: str | None = None,
    resume: bool = False,
    picture: bool = True,
    overwrite: bool = False,
    on_progress: Progress = ignore,
    on_warning: Say = ignore,
    **changes: Any,
) -> SceneResult:
    """Finds what changed between two georeferenced rasters.

    Both are warped on the fly onto one grid over their intersection, scaled by one scaling
    a date, seen in overlapping windows, and blended by weights that sum to one.

    Args:
        before: A raster: a file, a URL of a COG, or a ``/vsi…`` path.
        after: A raster that overlaps it, in any CRS and resolution.
        model: A network, as from ``load_model``; it runs on the device it is on.
        output: A folder; gets ``probability.tif``, ``mask.tif``, ``changes.*``,
            ``summary.json`` and ``overview.png``.
        settings: How; the defaults if none are given.
        workers: Share the work among as many processes, through dask.
        cluster: Share the work with a running dask cluster: its scheduler's address. The
            workers must see the rasters under the same paths.
        resume: Go on where an interrupted run into this folder stopped.
        picture: Whether to draw ``overview.png``.
        overwrite: Replace the map of another pair in this folder.
        on_progress: Called after every window with how many are done, and of how many.
        on_warning: Called with a line where the dates are clearly shifted, pixels are too
            coarse for the network, or the CRS is of no place on Earth.
        **changes: Fields of :class:`SceneSettings`, such as ``min_area=20``, that take the
            place of those in ``settings``.

    Raises:
        SceneError: If the rasters cannot be compared or read.
        SettingError: If a setting is out of range, or another run is to be resumed.
        OutputError: If the folder cannot be written, or holds an input or another pair's map.
    """
    settings = change_settings(SceneSettings, settings, changes)
    check_given_distance(model, settings.ground_sample_distance)
    _check_workers(workers, cluster)
    sources = _address(before), _address(after)
    check_outputs(Path(output), sources, overwrite)
    check_format(settings.polygon_format)
    with evaluating(model), raster_settings(), ThreadPoolExecutor(2) as threads:
        prints = [threads.submit(_input_fingerprint, source) for source in sources]
        engine = _prepare(model, settings, alone=workers is not None or cluster is not None)
        plan, findings = make_plan(*sources, engine, settings)
        for line in _warnings(model, settings, findings):
            on_warning(line)
        run = _Run.of(plan, model, engine, settings, Path(output))
        summary = run.read_finished() if resume else None
        if summary is None:
            found = _describe(plan, findings, prints)
            summary = run.do(found, workers, cluster, resume, on_progress)
    return run.result(summary, findings.pictures if picture else None, on_warning)


@dataclass(frozen=True)
class _Run:
    """One run over a scene, from its plan on."""

    plan: Plan
    engine: Engine
    network: ChangeNetwork
    settings: SceneSettings
    output: Path
    identity: Identity

    @classmethod
    def of(
        cls,
        plan: Plan,
        model: ChangeNetwork,
        engine: Engine,
        settings: SceneSettings,
        output: Path,
    ) -> _Run:
        """A run of a network behind an engine."""
        bare = model.network if isinstance(model, Engine) else model
        seen, network = (
            look_as(one, enlargement=plan.enlargement, tta=settings.tta) for one in (bare, engine)
        )
        identity = identify(plan, seen, engine, settings.polygons)
        return cls(plan, engine, network, settings, output, identity)

    @property
    def described(self) -> dict[str, str]:
        return describe_run(self.settings, self.engine, self.plan)

    @property
    def polygons(self) -> Path:
        return self.output / f"changes.{self.settings.polygon_format}"

    def read_finished(self) -> dict[str, Any] | None:
        """The summary of an equal run that came to its end, if it is there.

        Raises:
            SettingError: If another one came to its end there, and this one never began.
        """
        path = self.output / SUMMARY
        if not path.is_file() or not all((self.output / name).is_file() for name in RASTERS):
            return None
        try:
            summary = json.loads(path.read_text())
        except ValueError:
            return None
        if summary.get("identity") in self.identity:
            if not self.polygons.is_file():
                return None
            discard(self.output, self.identity)
            return summary
        if not holds(self.output, self.identity):
            other = find_differences(summary.get("settings", {}), self.described)
            raise SettingError(
                f"{self.output}: holds the finished map of other settings, versions or states of "
                f"the inputs{other}; repeat those, or make it anew without `resume`"
            )
        return None

    def do(
        self,
        found: dict[str, Any],
        workers: int | None,
        cluster: str | None,
        resume: bool,
        on_progress: Progress,
    ) -> dict[str, Any]:
        """Writes all files; gives the summary, which begins with what was found before."""
        start = time.monotonic()
        check_writable(self.output / SUMMARY)
        with sole_run(self.output):
            sources = self.plan.before.path, self.plan.after.path
            store = Store(self.output, self.identity, self.described, sources, resume)
            counts = self._map(store, workers, cluster, on_progress)
            seconds = found.pop("seconds") | {"run": round(time.monotonic() - start, 2)}
            summary = {
                **found,
                "coregistered": self.settings.coregister,
                "threshold": self.plan.threshold,
                **counts,
                "seconds": seconds,
                "engine": self.engine.engine,
                "precision": self.engine.precision,
                "engine_why": self.engine.why,
                "settings": self.described,
                "versions": _versions() | self.engine.versions(),
                "identity": self.identity.now,
            }
            write_json(self.output / SUMMARY, summary)
            store.remove()
        return summary

    def result(
        self, summary: dict[str, Any], pictures: tuple[Pixels, Pixels] | None, on_warning: Say
    ) -> SceneResult:
        """What is in the folder, with a picture of it if it is asked for and can be drawn."""
        probability, mask = (self.output / name for name in RASTERS)
        result = SceneResult(probability, mask, self.polygons, summary, self.plan, None)
        if pictures is None:
            return result
        drawn = self.output / PICTURE
        title = " and ".join(Path(date.path).name for date in (self.plan.before, self.plan.after))
        try:
            draw_overview(
                drawn, result.probability, result.changes, summary["changes"], pictures, title
            )
        except Exception as error:  # noqa: BLE001
            # Whatever hinders a picture, the map is whole.
            on_warning(f"{drawn}: could not be drawn ({first_line(error)})")
            return result
        return replace(result, picture=drawn)

    def _map(
        self, store: Store, workers: int | None, cluster: str | None, on_progress: Progress
    ) -> dict[str, Any]:
        try:
            with ExitStack() as stack:
                predictor: Local | Cluster = Local(self.plan, self.network)
                if workers is not None or cluster is not None:
                    client = stack.enter_context(connect(workers, cluster))
                    predictor = Cluster(self.plan, self.network, client)
                blended = blend(self.plan, store, predictor, on_progress)
                blended = stack.enter_context(closing(blended))
                strips = stack.enter_context(closing(ahead(blended)))
                return write_scene(
                    strips, self.plan.grid, store, self.output, self.settings.polygons
                )
        except CtmaError as error:
            _add_advice(error, store)
            raise


def _prepare(model: ChangeNetwork, settings: SceneSettings, alone: bool) -> Engine:
    """The engine; each thread of a worker is alone, here as many look as torch may use."""
    streams = 1 if alone else torch.get_num_threads()
    return prepare(model, settings.engine, settings.precision, streams=streams, keep=settings.cache)


def _check_workers(workers: int | None, cluster: str | None) -> None:
    check_count("workers", workers)
    if workers is not None and cluster is not None:
        raise SettingError("`workers` starts a cluster, `cluster` uses a running one: give one")


def _warnings(model: ChangeNetwork, settings: SceneSettings, findings: Findings) -> Iterator[str]:
    shift = findings.shift
    if not settings.coregister and shift is not None and shift.length > NOTABLE:
        yield (
            f"the dates are shifted by {shift.length:.1f} pixels ({shift.columns:+.1f} columns, "
            f"{shift.rows:+.1f} rows); add `coregister`"
        )
    if line := coarseness_warning(model, findings.ground_sample_distance):
        yield line
    if metres_a_unit(findings.overlap.grid.crs) is not None:
        yield "the CRS is tied to no place on Earth: areas are those of its plane"


def _address(path: str | Path) -> str:
    """An absolute path, so that it holds on workers started elsewhere; others as they are."""
    return str(Path(path).resolve()) if Path(path).exists() else str(path)


def _add_advice(error: CtmaError, store: Store) -> None:
    """Adds a word on what is kept; where nothing is, nothing is left behind."""
    if store.empty:
        store.remove()
        return
    error.args = (f"{error}; what is finished is kept: mend this, then add `resume`",)


def _input_fingerprint(path: str | Path) -> str | None:
    """Of a file's content, of a large one's parts; other addresses have none."""
    return spread_fingerprint(path) if Path(path).is_file() else None


def _describe(plan: Plan, findings: Findings, prints: list[Future[str | None]]) -> dict[str, Any]:
    """What is known before the first window, for the summary."""
    overlap, shift = findings.overlap, findings.shift
    return {
        "before": _describe_date(plan.before, prints[0].result(), overlap.outside_before),
        "after": _describe_date(plan.after, prints[1].result(), overlap.outside_after),
        "grid": _describe_grid(plan.grid),
        "ground_sample_distance": findings.ground_sample_distance,
        "enlargement": plan.enlargement,
        "shift_pixels": shift
        and {"columns": round(shift.columns, 2), "rows": round(shift.rows, 2)},
        "seconds": {"plan": round(findings.seconds, 2)},
    }


def _describe_date(date: Date, fingerprint: str | None, outside: float) -> dict[str, Any]:
    return {
        "path": date.path,
        "fingerprint": fingerprint,
        "bands": list(date.bands),
        "outside_share": round(outside, 6),
        "scaling": {"low": list(date.scaling.low), "high": list(date.scaling.high)},
    }


def _describe_grid(grid: Grid) -> dict[str, Any]:
    return {
        "crs": grid.crs.to_string(),
        "transform": list(grid.transform)[:6],
        "width": grid.width,
        "height": grid.height,
    }


def _versions() -> dict[str, str]:
    return {
        "ctma": __version__,
        "torch": torch.__version__,
        "rasterio": rasterio.__version__,
        "gdal": rasterio.__gdal_version__,
    }

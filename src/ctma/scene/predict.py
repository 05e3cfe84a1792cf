"""Predicts a change map from two rasters: the run from plan to summary."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctma.errors import CtmaError, SettingError, warn
from ctma.files import check_writable, sole_run, spread_fingerprint, write_json
from ctma.inference.ready import any_predictor
from ctma.inference.resolution import check_given_distance, coarseness_warning
from ctma.inference.running import BasePredictor
from ctma.memory import share_heap
from ctma.models.usage import Usage
from ctma.scene.doubt import Cells, compare_scene, write_doubt
from ctma.scene.finished import FinishedMap
from ctma.scene.grid import metres_a_unit
from ctma.scene.identity import describe_run, find_differences, identify
from ctma.scene.names import PICTURE, RASTERS, SUMMARY
from ctma.scene.packages import load_packages
from ctma.scene.pictures import try_largest, try_overview
from ctma.scene.plan import Findings, Plan, make_plan
from ctma.scene.project import write_project
from ctma.scene.rasters import raster_settings
from ctma.scene.registration import NOTABLE
from ctma.scene.scaling import FAR_APART, MOST_CLIPPED
from ctma.scene.settings import SceneSettings
from ctma.scene.store import Store, discard, holds, unfinished_sources
from ctma.scene.strips import blend
from ctma.scene.styles import style_changes
from ctma.scene.summary import describe_plan, describe_versions
from ctma.scene.windows import Cluster, Local, Sharing, ahead, connect
from ctma.scene.writing import Draw, MapWriter, check_format, check_outputs, refuse_reviewed
from ctma.settings import check_kind
from ctma.types import Pixels, Progress, ignore

if TYPE_CHECKING:
    from ctma.inference.predictor import Model


@dataclass(frozen=True)
class SceneResult:
    """The files and the summary of a prediction over a scene.

    Attributes:
        probability: A COG of the change probability, 0 to 250 for 0 to 1, nodata 255.
        mask: A COG, 1 where the probability exceeds the threshold, nodata 255.
        changes: A file with one polygon per change.
        summary: The content of ``summary.json``.
        plan: How both dates were read.
        picture: A PNG of both dates, probability and polygons; ``None`` where none was drawn.
        largest: A PNG of the largest changes; ``None`` where none was drawn.
        doubt: A COG, 0 to 250, of where not to believe the map; ``None`` where none was asked for.
    """

    probability: Path
    mask: Path
    changes: Path
    summary: dict[str, Any]
    plan: Plan
    picture: Path | None
    largest: Path | None
    doubt: Path | None


def predict_scene(
    before: str | Path,
    after: str | Path,
    model: Model | BasePredictor,
    output: str | Path,
    settings: SceneSettings | None = None,
    *,
    workers: int | None = None,
    cluster: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_progress: Progress = ignore,
) -> SceneResult:
    """Finds what changed between two georeferenced rasters.

    ctma warps both rasters on the fly onto one grid over their intersection, with one scaling for
    each date. The network predicts overlapping windows. ctma blends the windows by weights that
    sum to one.

    Warns where the scene is mostly unlike the training images, the dates are clearly shifted, their
    ranges lie far apart, ``scale`` leaves out most values, pixels are too coarse for the network,
    the CRS is tied to no place on Earth, or no pixel has data in both dates.

    Args:
        before: A raster: a file, a URL of a COG, or a ``/vsi…`` path.
        after: A raster that overlaps ``before``, in any CRS and resolution.
        model: A predictor, as from ``ctma.load``, a network in memory, or a checkpoint by name or
            path.
        output: A folder for ``probability.tif``, ``mask.tif``, ``changes.*``, ``summary.json``
            and ``overview.png``.
        settings: The settings of the scene; the defaults if none are given.
        workers: Number of processes to share the work among, through dask.
        cluster: Address of the scheduler of a running dask cluster, to share the work with. The
            workers must see the rasters under the same paths.
        resume: Whether to continue an interrupted run into this folder.
        overwrite: Whether to replace the map of another pair in this folder.
        on_progress: Called after every window with the number of finished windows and of all.

    Raises:
        SceneError: If the rasters cannot be compared or read.
        SettingError: If a setting is out of range, or ``resume`` meets a run of other settings,
            versions or inputs.
        OutputError: If the folder cannot be written, or holds an input or another pair's map.
    """
    share_heap()
    settings = settings or SceneSettings()
    check_kind(settings, SceneSettings)
    sharing = Sharing(workers, cluster)
    sharing.check()
    sources = _address(before), _address(after)
    check_outputs(Path(output), sources, overwrite, resume)
    check_format(settings.polygon_format)
    predictor = any_predictor(model)
    check_given_distance(predictor.usage, settings.ground_sample_distance)
    with raster_settings(), ThreadPoolExecutor(3) as threads:
        threads.submit(load_packages, predictor.computing.packages[:1], settings.picture)
        prints = [threads.submit(_input_fingerprint, source) for source in sources]
        plan, findings = make_plan(*sources, predictor.usage, predictor.stride, settings)
        for line in _warnings(predictor.usage, settings, findings):
            warn(line)
        cells = compare_scene(plan, predictor.usage, settings)
        run = _Run.of(plan, predictor, settings, Path(output), cells)
        summary = run.read_finished() if resume else None
        if summary is None:
            if not (overwrite or unfinished_sources(run.output)):
                refuse_reviewed(run.output)
            entries = describe_plan(plan, findings, prints, run.output)
            summary = run.do(entries, findings.pictures, sharing, resume, on_progress)
        elif settings.picture and not (run.output / PICTURE).exists():
            run.draw_again(summary, findings.pictures)
    return run.result(summary)


@dataclass(frozen=True)
class _Run:
    """One run over a scene, from its plan on."""

    plan: Plan
    predictor: BasePredictor
    settings: SceneSettings
    output: Path
    cells: Cells | None
    identity: str

    @classmethod
    def of(
        cls,
        plan: Plan,
        predictor: BasePredictor,
        settings: SceneSettings,
        output: Path,
        cells: Cells | None,
    ) -> _Run:
        """Makes the run of a predictor over a plan."""
        identity = identify(plan, predictor, settings.polygons_of(predictor.usage))
        return cls(plan, predictor, settings, output, cells, identity)

    @property
    def described(self) -> dict[str, str]:
        return describe_run(self.settings, self.predictor, self.plan)

    @property
    def unlike(self) -> dict[str, float]:
        if self.cells is None:
            return {}
        return {"unlike_share": round(self.cells.unlike, 4)}

    @property
    def polygons(self) -> Path:
        return self.output / f"changes.{self.settings.polygon_format}"

    def read_finished(self) -> dict[str, Any] | None:
        """The summary of a finished run of the same fingerprint, ``None`` if there is none.

        Raises:
            SettingError: If the folder holds the finished map of another run, and no unfinished
                work of this run.
        """
        path = self.output / SUMMARY
        if not path.is_file() or not all((self.output / name).is_file() for name in RASTERS):
            return None
        try:
            summary = json.loads(path.read_text())
        except ValueError:
            return None
        if summary.get("identity") == self.identity:
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
        description: dict[str, Any],
        pictures: tuple[Pixels, Pixels],
        sharing: Sharing,
        resume: bool,
        on_progress: Progress,
    ) -> dict[str, Any]:
        """Writes all files; returns the summary, which begins with the description."""
        start = time.monotonic()
        check_writable(self.output / SUMMARY)
        with sole_run(self.output):
            sources = self.plan.before.path, self.plan.after.path
            store = Store(self.output, self.identity, self.described, sources, resume)
            said: list[str] = []

            def draw(probability: Path, polygons: Path, counts: dict[str, Any]) -> None:
                if self.settings.picture:
                    known = description | self.unlike | counts
                    unfinished = FinishedMap(store.folder, known, self.plan.grid, polygons)
                    try_overview(unfinished, probability, pictures, self.output, said.append)

            counts = self._map(store, sharing, draw, on_progress)
            seconds = description.pop("seconds") | {"run": round(time.monotonic() - start, 2)}
            summary = {
                **description,
                "bands": list(self.predictor.usage.bands),
                "coregistered": self.settings.coregister,
                "threshold": self.plan.threshold,
                **counts,
                **self.unlike,
                "seconds": seconds,
                **self.predictor.describe(),
                "settings": self.described,
                "versions": describe_versions() | self.predictor.computing.versions(),
                "identity": self.identity,
            }
            write_project(self._finished(summary))
            write_json(self.output / SUMMARY, summary)
            store.remove()
        for line in said:
            warn(line)
        if not summary["valid_pixels"]:
            warn(f"{self.output}: no pixel has data in both dates, so the map is empty")
        return summary

    def draw_again(self, summary: dict[str, Any], pictures: tuple[Pixels, Pixels]) -> None:
        """Draws the picture of a map that was finished before."""
        finished = self._finished(summary)
        try_overview(finished, finished.probability, pictures, self.output, warn)

    def result(self, summary: dict[str, Any]) -> SceneResult:
        """The result in the folder, with doubt and the largest changes if asked for."""
        finished = self._finished(summary)
        largest = doubt = None
        if self.cells is not None:
            doubt = write_doubt(finished, self.cells, self.plan.threshold)
        if self.settings.top:
            largest = try_largest(finished, self.settings.top, warn)
        path = self.output / PICTURE
        picture = path if self.settings.picture and path.is_file() else None
        rasters = finished.probability, finished.mask
        return SceneResult(*rasters, self.polygons, summary, self.plan, picture, largest, doubt)

    def _finished(self, summary: dict[str, Any]) -> FinishedMap:
        return FinishedMap(self.output, summary, self.plan.grid, self.polygons)

    def _map(
        self, store: Store, sharing: Sharing, draw: Draw, on_progress: Progress
    ) -> dict[str, Any]:
        try:
            writer = self._predict(store, sharing, on_progress)
            # Packing and drawing take the memory of the network, which is gone by now.
            return writer.finish(draw)
        except CtmaError as error:
            _add_advice(error, store)
            raise

    def _predict(self, store: Store, sharing: Sharing, on_progress: Progress) -> MapWriter:
        with ExitStack() as stack:
            streams = self.predictor.threads if sharing.alone else 1
            look = stack.enter_context(self.predictor.look(self.plan.enlargement, streams))
            windows: Local | Cluster = Local(self.plan, look)
            if not sharing.alone:
                client = stack.enter_context(connect(*sharing))
                # Workers elsewhere have devices of their own.
                device = "auto" if sharing.cluster else self.predictor.running.device
                windows = Cluster(self.plan, look, client, device)
            blended = blend(self.plan, store, windows, on_progress)
            blended = stack.enter_context(closing(blended))
            strips = stack.enter_context(closing(ahead(blended)))
            polygons = self.settings.polygons_of(self.predictor.usage)
            style = style_changes(self.plan.threshold)
            writer = MapWriter(self.output, self.plan.grid, store, polygons, style)
            writer.take(strips)
        return writer


def _warnings(usage: Usage, settings: SceneSettings, findings: Findings) -> Iterator[str]:
    shift = findings.shift
    if not settings.coregister and shift is not None and shift.length > NOTABLE:
        yield (
            f"the dates are shifted by {shift.length:.1f} pixels ({shift.columns:+.1f} columns, "
            f"{shift.rows:+.1f} rows); add `coregister`"
        )
    if findings.disparity is not None and findings.disparity > FAR_APART:
        yield (
            f"the values of one date spread {findings.disparity:.1f} times as far as those of the "
            "other; if both are stored alike, name one range as `scale`"
        )
    if findings.clipped > MOST_CLIPPED:
        yield (
            f"{findings.clipped:.0%} of the values of one date lie outside `scale`, and look alike "
            "to the network; name the range of the stored values"
        )
    if line := coarseness_warning(usage, findings.ground_sample_distance):
        yield line
    if metres_a_unit(findings.overlap.grid.crs) is not None:
        yield "the CRS is tied to no place on Earth: areas are those of its plane"


def _address(path: str | Path) -> str:
    """The absolute path of a file, for workers started elsewhere; other addresses unchanged."""
    return str(Path(path).resolve()) if Path(path).exists() else str(path)


def _add_advice(error: CtmaError, store: Store) -> None:
    """Adds advice to resume to an error; removes the store where no work is finished."""
    if store.empty:
        store.remove()
        return
    error.args = (f"{error}; what is finished is kept: mend this, then add `resume`",)


def _input_fingerprint(path: str | Path) -> str | None:
    """The fingerprint of a file, from parts of a large file; ``None`` for other addresses."""
    return spread_fingerprint(path) if Path(path).is_file() else None

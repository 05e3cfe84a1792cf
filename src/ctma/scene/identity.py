"""The fingerprint of a run over a scene; a run may resume a run of the same fingerprint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctma.files import fingerprint
from ctma.inference.running import BasePredictor
from ctma.scene.plan import Plan
from ctma.scene.rasters import files_beside
from ctma.scene.settings import PolygonSettings, SceneSettings


def identify(plan: Plan, predictor: BasePredictor, polygons: PolygonSettings) -> str:
    """The fingerprint of a run; a run may resume a run of the same fingerprint.

    The fingerprint depends on all files of the inputs, on the plan, the polygon settings and the
    network. It also depends on device, engine, precision, views and versions.

    Args:
        plan: The plan.
        predictor: The network, and how it runs.
        polygons: How polygons are written.
    """
    paths = [date.path for date in (plan.before, plan.after)]
    files = [*paths, *(str(file) for path in paths for file in files_beside(path))]
    computing = predictor.computing.describe()
    return fingerprint(
        [
            repr(plan),
            repr(polygons),
            *map(_stamp, files),
            predictor.fingerprint,
            f"tta {predictor.running.tta and predictor.running.views}",
            *computing.values(),
        ]
    )


def describe_run(settings: SceneSettings, predictor: BasePredictor, plan: Plan) -> dict[str, str]:
    """Settings and engine of a run, by name, to compare with another run."""
    entries = dict(settings) | {"threshold": plan.threshold, "tta": predictor.running.tta}
    entries |= predictor.computing.describe()
    # These settings do not change the map, or other entries already hold them.
    for name in ("picture", "top", "doubt", "units"):
        entries.pop(name)
    return {name: str(value) for name, value in entries.items()}


def find_differences(former: Mapping[str, Any], now: Mapping[str, str]) -> str:
    """The values that differ between two runs, as text, for names in both; empty if none."""
    other = [
        f"{name} {former[name]}, now {value}"
        for name, value in now.items()
        if former.get(name, value) != value
    ]
    return f" ({'; '.join(other)})" if other else ""


def _stamp(path: str) -> str:
    """Identifies the state of an input by path, size and time, without reading its content."""
    file = Path(path)
    if not file.is_file():
        return path
    state = file.stat()
    return f"{file.resolve()} {state.st_size} {state.st_mtime_ns}"

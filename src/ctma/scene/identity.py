"""What the outputs of a run over a scene depend on, as a fingerprint: equal runs may be resumed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctma.files import fingerprint
from ctma.inference.predictor import Predictor
from ctma.scene.plan import Plan
from ctma.scene.rasters import files_beside
from ctma.scene.settings import PolygonSettings, SceneSettings


def identify(plan: Plan, predictor: Predictor, polygons: PolygonSettings) -> str:
    """The fingerprint of a run; equal runs may be resumed.

    Of inputs with all files that they consist of, plan, polygons and network, and of what
    computes: device, engine, precision, flips and versions.

    Args:
        plan: The plan.
        predictor: The network, and how it runs.
        polygons: How polygons are written.
    """
    paths = [date.path for date in (plan.before, plan.after)]
    files = [*paths, *(str(file) for path in paths for file in files_beside(path))]
    computing = predictor.prepared.engine.describe()
    return fingerprint(
        [
            repr(plan),
            repr(polygons),
            *map(_stamp, files),
            predictor.fingerprint,
            f"tta {predictor.running.tta}",
            *computing.values(),
        ]
    )


def describe_run(settings: SceneSettings, predictor: Predictor, plan: Plan) -> dict[str, str]:
    """Settings and what computes, by name, for those who ask what differs from another run."""
    told = dict(settings) | {"threshold": plan.threshold, "tta": predictor.running.tta}
    told |= predictor.prepared.engine.describe()
    # On these no byte of the map depends, or it is told by others.
    for name in ("picture", "units"):
        told.pop(name)
    return {name: str(value) for name, value in told.items()}


def find_differences(former: Mapping[str, Any], now: Mapping[str, str]) -> str:
    """In which names that both know two runs differ, for people; nothing where in none."""
    other = [
        f"{name} {former[name]}, now {value}"
        for name, value in now.items()
        if former.get(name, value) != value
    ]
    return f" ({'; '.join(other)})" if other else ""


def _stamp(path: str) -> str:
    """Tells one state of an input from another without reading all of it."""
    file = Path(path)
    if not file.is_file():
        return path
    state = file.stat()
    return f"{file.resolve()} {state.st_size} {state.st_mtime_ns}"

"""What the outputs of a run over a scene depend on, as a fingerprint: equal runs may be resumed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ctma.files import fingerprint
from ctma.inference.engines.engine import Engine
from ctma.models.base import ChangeNetwork
from ctma.scene.plan import Plan
from ctma.scene.rasters import files_beside
from ctma.scene.settings import PolygonSettings, SceneSettings


class Identity(NamedTuple):
    """The fingerprint of a run.

    Attributes:
        now: Of inputs with all files that they consist of, plan, polygons and network, and of
            what computes: device, engine, precision and versions.
        before: What ctma called the same run when it did not look at what computes; such runs
            can still be resumed.
    """

    now: str
    before: str


def identify(
    plan: Plan, network: ChangeNetwork, engine: Engine, polygons: PolygonSettings
) -> Identity:
    """The identity of a run.

    Args:
        plan: The plan.
        network: As it looks at windows, but for the engine.
        engine: What runs it.
        polygons: How polygons are written.
    """
    stamps = [_stamp(date.path) for date in (plan.before, plan.after)]
    before = fingerprint([repr(plan), repr(polygons), *stamps, network.fingerprint()])
    computing = engine.describe()
    beside = [file for date in (plan.before, plan.after) for file in files_beside(date.path)]
    nodata = [] if plan.nodata is None else [f"nodata {plan.nodata}"]
    now = fingerprint([before, *nodata, *map(_stamp, beside), *computing.values()])
    # Runs that said nothing of what computes were torch's, in float32 or bf16 as the plan says.
    return Identity(now, before if engine.engine == "eager" else now)


def describe_run(settings: SceneSettings, engine: Engine, plan: Plan) -> dict[str, str]:
    """Settings and what computes, by name, for those who ask what differs from another run."""
    told = vars(settings) | {"threshold": plan.threshold} | engine.describe()
    # On these no byte depends, or it is told by others.
    for name in ("cache", "units"):
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

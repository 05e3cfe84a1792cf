"""Decisions of a reviewer: read from the GeoJSON that a review page gives."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple

import shapely
from pydantic import BaseModel, ConfigDict, ValidationError
from shapely.errors import ShapelyError
from shapely.geometry import Polygon, shape
from shapely.geometry.base import BaseGeometry

from ctma.errors import DataError, SettingError

Verdict = Literal["right", "wrong", "unsure", "missed", "change", "no change"]


class Decision(BaseModel):
    """What a reviewer decided on one change.

    Attributes:
        place: The name of the pair of images; empty for a scene.
        id: Number of the change in its place; ``None`` for a drawn change.
        verdict: ``right``, ``wrong``, ``unsure``, or ``missed`` for a drawn change; ``change``,
            ``no change`` or ``unsure`` in a survey; ``None`` where there is only a note or an
            outline.
        note: The reviewer's note.
        reviewer: The reviewer's name.
        time: When the reviewer decided, ISO 8601.
        seconds: How long the reviewer looked.
        repeat: Whether the change was shown for a second time.
        mended: Whether the reviewer changed the outline.
        kind: ``"still"`` for a place that shows no change on the map.
        outline: The polygon, in degrees (WGS84), or in pixels where the map has no CRS.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", arbitrary_types_allowed=True)

    place: str = ""
    id: int | None = None
    verdict: Verdict | None = None
    note: str = ""
    reviewer: str = ""
    time: str | None = None
    seconds: float = 0.0
    repeat: bool = False
    mended: bool = False
    kind: str = ""
    outline: BaseGeometry

    @property
    def change(self) -> tuple[str, int | None]:
        """The place and the number of the change."""
        return self.place, self.id


class Agreement(NamedTuple):
    """How far two reviewers, or one reviewer with himself, decided alike.

    Attributes:
        first: A reviewer.
        second: The other one; the same name where changes were shown twice.
        changes: Number of changes that both decided on.
        same: Number of equal verdicts.
        kappa: Cohen's kappa ("A Coefficient of Agreement for Nominal Scales", 1960); ``None``
            where the verdicts leave no room for chance.
    """

    first: str
    second: str
    changes: int
    same: int
    kappa: float | None


def name_files(decisions: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files of decisions that a caller names: one, or one a reviewer.

    Raises:
        SettingError: If no file is named, or one twice.
    """
    named = [decisions] if isinstance(decisions, str | Path) else [*decisions]
    paths = [Path(path) for path in named]
    if not paths:
        raise SettingError("`decisions`: name one file or more")
    if len({path.resolve() for path in paths}) < len(paths):
        raise SettingError("`decisions`: a file is named twice")
    return paths


def read_decisions(path: str | Path, fingerprint: str) -> list[Decision]:
    """Reads a file of decisions on one map.

    Args:
        path: The GeoJSON that a review page gave.
        fingerprint: The fingerprint of the map.

    Raises:
        DataError: If the file cannot be read, is damaged, belongs to another map, or holds answers
            of a survey.
    """
    decisions, survey = read_answers(Path(path), fingerprint)
    if survey is not None:
        raise DataError(f"{path}: holds answers of a survey, which ctma area reads")
    return decisions


def read_answers(path: Path, fingerprint: str) -> tuple[list[Decision], Any]:
    """Reads a file of decisions or of answers on one map.

    Args:
        path: The GeoJSON that a page gave.
        fingerprint: The fingerprint of the map.

    Returns:
        The decisions, and the design of the survey, ``None`` for a review.

    Raises:
        DataError: If the file cannot be read, is damaged, or belongs to another map.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: is not JSON ({error})") from error
    about = content.get("ctma") if isinstance(content, dict) else None
    features = content.get("features") if isinstance(content, dict) else None
    if not isinstance(about, dict) or not isinstance(features, list):
        raise DataError(f"{path}: holds no decisions; download them from the review page")
    if about.get("fingerprint") != fingerprint:
        raise DataError(
            f"{path}: holds decisions on another map ({about.get('map')}, fingerprint "
            f"{about.get('fingerprint')}; this map has {fingerprint})"
        )
    decisions = [_read(path, number, feature) for number, feature in enumerate(features, start=1)]
    return decisions, about.get("survey")


def _read(path: Path, number: int, feature: Any) -> Decision:
    where = f"{path}: feature {number}"
    try:
        properties, geometry = feature["properties"], feature["geometry"]
        decision = Decision.model_validate({**properties, "outline": _outline(geometry)})
    except ValidationError as error:
        (first, *_) = error.errors()
        name = ".".join(map(str, first["loc"]))
        raise DataError(f"{where}: {name} {first['input']!r}: {first['msg'].lower()}") from error
    except (KeyError, TypeError, AttributeError, ValueError, ShapelyError) as error:
        raise DataError(f"{where}: has no polygon with properties of a decision") from error
    if (decision.verdict == "missed") != (decision.id is None):
        raise DataError(f"{where}: a drawn change has the verdict missed and no id, and no other")
    return decision


def _outline(geometry: Any) -> BaseGeometry:
    """A valid polygon; hand-edited outlines may cross themselves.

    Raises:
        ValueError: If the geometry has no area.
    """
    outline = shape(geometry)
    if not all(map(math.isfinite, outline.bounds)) or outline.bounds == ():
        raise ValueError("empty")
    if not outline.is_valid:
        outline = shapely.union_all([_mend(part) for part in shapely.get_parts(outline)])
    areas = [part for part in shapely.get_parts(outline).ravel() if part.area > 0]
    outline = shapely.union_all(areas)
    if outline.is_empty:
        raise ValueError("no area")
    return outline


def _mend(part: BaseGeometry) -> BaseGeometry:
    """A valid form of a polygon; what lies in a hole is never part of it."""
    if not isinstance(part, Polygon):
        return part
    shell, *holes = (shapely.make_valid(Polygon(ring)) for ring in (part.exterior, *part.interiors))
    return shell.difference(shapely.union_all(holes))


def compare_reviewers(
    files: Sequence[Sequence[Decision]], paths: Sequence[Path]
) -> list[Agreement]:
    """The agreement of each reviewer with himself, and of each two reviewers.

    Args:
        files: The decisions of each reviewer.
        paths: Their files, which stand for reviewers without a name of their own.
    """
    names = [_name(decisions) for decisions in files]
    names = [
        name if name and names.count(name) == 1 else f"{name} ({path})".strip()
        for name, path in zip(names, paths, strict=True)
    ]
    firsts = [_verdicts(decisions, repeat=False) for decisions in files]
    seconds = [_verdicts(decisions, repeat=True) for decisions in files]
    alone = (
        _agree(name, name, first, second)
        for name, first, second in zip(names, firsts, seconds, strict=True)
    )
    both = (
        _agree(names[one], names[other], firsts[one], firsts[other])
        for one, other in combinations(range(len(files)), 2)
    )
    return [agreement for agreement in (*alone, *both) if agreement.changes]


def _name(decisions: Iterable[Decision]) -> str:
    return ", ".join(sorted({decision.reviewer for decision in decisions if decision.reviewer}))


def _verdicts(decisions: Iterable[Decision], *, repeat: bool) -> dict[tuple[str, int | None], str]:
    return {
        decision.change: decision.verdict
        for decision in decisions
        if decision.id is not None and decision.verdict and decision.repeat == repeat
    }


def _agree(
    first: str,
    second: str,
    ones: dict[tuple[str, int | None], str],
    others: dict[tuple[str, int | None], str],
) -> Agreement:
    shared = [(ones[change], others[change]) for change in ones.keys() & others.keys()]
    same = sum(one == other for one, other in shared)
    shares = [Counter(side) for side in zip(*shared, strict=True)] if shared else []
    count = len(shared)
    by_chance = sum(shares[0][name] * shares[1][name] for name in shares[0]) if shares else 0
    expected = by_chance / count**2 if count else 1.0
    kappa = (same / count - expected) / (1 - expected) if expected < 1 else None
    return Agreement(first, second, count, same, kappa)

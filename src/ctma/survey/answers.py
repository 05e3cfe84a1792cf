"""What reviewers answered on the places of a sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from ctma.errors import DataError
from ctma.review.decisions import Agreement, Decision, compare_reviewers, read_answers
from ctma.review.verdicts import OutlineMover
from ctma.scene.finished import FinishedMap
from ctma.survey.samples import Design, SampledPlace, check_map, read_design, read_sample

ANSWERS = {"change": 1, "1": 1, "no change": 0, "0": 0, "unsure": None, "": None}
"""Verdicts in files, and what they mean; reviewers may type them."""


@dataclass(frozen=True)
class Answers:
    """The answers on a sample.

    Attributes:
        design: How the places were drawn.
        ids: (n,) numbers of the places.
        rows: (n,) their rows.
        columns: (n,) their columns.
        true: (n,) 1 for change, 0 for none, -1 for no certain answer.
        unsure: Number of places that a reviewer is unsure of.
        disputed: Number of places on which as many reviewers say change as say none.
        reviewers: Their names.
        agreements: How far reviewers agree, with each other and with themselves.
        seconds: Median seconds of an answer; ``None`` if not known.
    """

    design: Design
    ids: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    true: NDArray[np.int64]
    unsure: int
    disputed: int
    reviewers: list[str]
    agreements: list[Agreement]
    seconds: float | None


@dataclass(frozen=True)
class _File:
    """One reviewer's answers, with the place of each."""

    design: Design
    decisions: list[Decision]
    places: dict[int, tuple[int, int]]


def read_survey(paths: Sequence[Path], finished: FinishedMap) -> Answers | list[list[Decision]]:
    """Reads the answers of one reviewer or more.

    Args:
        paths: Files of a survey page, or files of the sample with answers, one a reviewer.
        finished: The map that the sample was drawn from.

    Returns:
        The answers; or the decisions of each reviewer, where the files come from a review.

    Raises:
        DataError: If a file cannot be read or is damaged, or the files belong to another map or to
            different samples.
    """
    read = [_read(path, finished) for path in paths]
    contents = [path.read_bytes() for path in paths]
    if len({*contents}) < len(contents):
        raise DataError(f"{paths[-1]}: holds the same answers as another file")
    surveys = [one for one in read if isinstance(one, _File)]
    reviews = [one for one in read if not isinstance(one, _File)]
    if not surveys:
        return reviews
    if reviews or len({one.design.sample for one in surveys}) > 1:
        raise DataError(f"{paths[-1]}: holds decisions on another sample than {paths[0]}")
    return _join(surveys, paths)


def _read(path: Path, finished: FinishedMap) -> _File | list[Decision]:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.suffix == ".csv":
        raise DataError(
            f"{path}: fill the answers into the .gpkg or .geojson of the sample instead"
        )
    if path.suffix == ".gpkg" or _is_sample(path):
        design, places = read_sample(path)
        check_map(design, finished, path)
        at = {place.id: (place.row, place.column) for place in places}
        return _File(design, [*filter(None, (_decide(path, one) for one in places))], at)
    decisions, told = read_answers(path, finished.fingerprint)
    if told is None:
        return decisions
    design = read_design(told, path)
    check_map(design, finished, path)
    to_grid = OutlineMover(finished.grid)
    to_pixels = (~finished.grid.transform).to_shapely()
    places_of: dict[int, tuple[int, int]] = {}
    for one in decisions:
        if one.id is None or not 1 <= one.id <= design.points:
            raise DataError(f"{path}: answers on place {one.id}, which the sample lacks")
        if one.verdict is not None and one.verdict not in ANSWERS:
            raise DataError(f"{path}: place {one.id} has the verdict {one.verdict} of a review")
        pixels = shapely.affinity.affine_transform(to_grid(one.outline), to_pixels)
        point = shapely.point_on_surface(pixels)
        places_of[one.id] = int(point.y), int(point.x)
    return _File(design, decisions, places_of)


def _is_sample(path: Path) -> bool:
    """Whether a GeoJSON is a file of ctma sample, and none of a page."""
    if path.suffix != ".geojson":
        return False
    try:
        return b'"fingerprint"' not in path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _decide(path: Path, place: SampledPlace) -> Decision | None:
    """The answer that a file of the sample holds on a place."""
    text = place.verdict.lower()
    if text not in ANSWERS:
        raise DataError(
            f"{path}: place {place.id} has the verdict {place.verdict}; expected change, no change "
            "or unsure"
        )
    if not text:
        return None
    verdict = {1: "change", 0: "no change", None: "unsure"}[ANSWERS[text]]
    return Decision.model_validate(
        {"id": place.id, "verdict": verdict, "reviewer": place.reviewer, "outline": place.pixel}
    )


def _join(files: Sequence[_File], paths: Sequence[Path]) -> Answers:
    """All reviewers' answers; most of them decide."""
    said: dict[int, list[str]] = {}
    for file in files:
        # Of several answers of one reviewer, the last one counts.
        last = {one.id: one.verdict for one in file.decisions if one.verdict and not one.repeat}
        for number, verdict in last.items():
            if number is not None:
                said.setdefault(number, []).append(verdict)
    places = {number: at for file in files for number, at in file.places.items()}
    answers = {number: _most(verdicts) for number, verdicts in sorted(said.items())}
    decisions = [one for file in files for one in file.decisions]
    seconds = [one.seconds for one in decisions if one.verdict and one.seconds]
    rows, columns = np.array([places[number] for number in answers], np.int64).reshape(-1, 2).T
    return Answers(
        design=files[0].design,
        ids=np.array([*answers], np.int64),
        rows=rows,
        columns=columns,
        true=np.array([-1 if one is None else one for one in answers.values()], np.int64),
        unsure=sum(
            one is None and not _is_disputed(said[number]) for number, one in answers.items()
        ),
        disputed=sum(_is_disputed(said[number]) for number in answers),
        reviewers=sorted({one.reviewer for one in decisions if one.reviewer}),
        agreements=compare_reviewers([file.decisions for file in files], paths),
        seconds=float(np.median(seconds)) if seconds else None,
    )


def _most(verdicts: Sequence[str]) -> int | None:
    """What most reviewers say; ``None`` where as many say the contrary."""
    votes = Counter(ANSWERS[verdict] for verdict in verdicts)
    if votes[1] == votes[0]:
        return None
    return int(votes[1] > votes[0])


def _is_disputed(verdicts: Sequence[str]) -> bool:
    return "change" in verdicts and _most(verdicts) is None

"""How much changed: areas and accuracies from the answers on a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from ctma.errors import DataError, SettingError
from ctma.files import check_writable, refuse_existing, write_json
from ctma.review.decisions import Agreement, name_files
from ctma.scene.finished import FinishedMap, read_finished
from ctma.scene.strips import NO_DATA
from ctma.survey.answers import Answers, read_survey
from ctma.survey.census import Census, count_verdicts
from ctma.survey.drawing import divide_changes
from ctma.survey.estimators import Answered, Estimate, Survey
from ctma.survey.report import PICTURE_SIDE, draw_places, write_report
from ctma.survey.samples import Design
from ctma.survey.settings import LEAST_POINTS, SampleSettings
from ctma.survey.strata import CHANGE, ZONES, Strata, Stratum
from ctma.types import counted

CLASSES = ("no change", "change")
SUFFIXES = (".html", ".md", ".json")


@dataclass(frozen=True)
class StratumAnswers:
    """A stratum, and how many of its places were answered.

    Attributes:
        name: What the stratum holds.
        mapped: Whether the map calls it change: 0 or 1.
        area: Ground area, square metres.
        places: Number of places with an answer of change or no change.
        change: Number of those that changed.
    """

    name: str
    mapped: int
    area: float
    places: int
    change: int


@dataclass(frozen=True)
class AreaEstimate:
    """What a survey says of a map. Areas are square metres, accuracies shares.

    Attributes:
        design: How the places were drawn.
        strata: The strata, with their answers.
        mapped: Area that the map calls change.
        total: Area of the map that has data.
        change: Estimated area of change.
        no_change: Estimated area of no change; ``None`` where polygons were drawn.
        assisted: Area of change, estimated with the help of the map's probability; ``None`` where
            that is not sound.
        overall: Overall accuracy; ``None`` where polygons were drawn.
        users: User's accuracy of no change and of change; ``None`` where unknown.
        producers: Producer's accuracy of no change and of change; ``None`` where unknown.
        users_by_number: Share of the mapped changes that are right, where polygons were drawn.
        counts: Numbers of places: a row for each class of the map, a column for each true one.
        shares: Shares of the ground in the same order.
        unsure_none: Area of change if no unsure place changed.
        unsure_all: Area of change if each unsure place changed.
        reviewers: Their names.
        agreements: How far reviewers agree.
        seconds: Median seconds of an answer.
        deviations: What did not go as planned, in sentences.
        files: The files that were written.
    """

    design: Design
    strata: list[StratumAnswers]
    mapped: float
    total: float
    change: Estimate
    no_change: Estimate | None
    assisted: Estimate | None
    overall: Estimate | None
    users: list[Estimate | None]
    producers: list[Estimate | None]
    users_by_number: Estimate | None
    counts: list[list[int]]
    shares: list[list[float]]
    unsure_none: float
    unsure_all: float
    reviewers: list[str]
    agreements: list[Agreement]
    seconds: float | None
    deviations: list[str]
    files: list[Path]

    def as_dict(self) -> dict[str, Any]:
        """All values as plain ones."""
        content = asdict(self)
        content["design"] = self.design.model_dump(mode="json")
        content["agreements"] = [agreement._asdict() for agreement in self.agreements]
        content["files"] = [str(path) for path in self.files]
        return content


def estimate_area(
    folder: str | Path,
    answers: str | Path | Sequence[str | Path],
    output: str | Path | None = None,
    *,
    strata: str | Path | None = None,
    response: str = "",
    overwrite: bool = False,
) -> AreaEstimate | Census:
    """Estimates how much changed, and how far the map is right.

    Places without a certain answer are left out, as if they were like the others of their stratum.

    Args:
        folder: The folder of the map.
        answers: One file or more, each of one reviewer: from the survey page, or the file of the
            sample with the attribute ``verdict``. Decisions of a review page are no probability
            sample: they give user's accuracy alone.
        output: The report without a suffix; ``.html``, ``.md`` and ``.json`` are written.
        strata: The folder of the map that the sample was drawn from, if that is another map on the
            same grid. Then the accuracies are those of the map in ``folder``.
        response: How reviewers decided, for the report.
        overwrite: Whether to replace a report that exists.

    Raises:
        DataError: If a map or a file cannot be read, files do not belong together, or a stratum has
            too few answers.
        OutputError: If a file cannot be written.
        SettingError: If no file is named, or one twice.
    """
    paths, finished = name_files(answers), read_finished(folder)
    sampled = finished if strata is None else read_finished(strata)
    if sampled.grid != finished.grid:
        raise DataError(f"{sampled.folder}: lies on another grid than {finished.folder}")
    files = [] if output is None else _name_files(Path(output))
    for file in files:
        refuse_existing(file, overwrite)
        check_writable(file)
    read = read_survey(paths, sampled)
    if not isinstance(read, Answers):
        if strata is not None:
            raise SettingError("`strata`: is for answers on a sample, and these come from a review")
        result: AreaEstimate | Census = count_verdicts(finished, read, paths, files)
    else:
        result = _estimate(sampled, read, None if strata is None else finished, files)
    if files:
        picture = None
        if isinstance(read, Answers):
            picture = draw_places(finished, read.rows, read.columns, read.true, PICTURE_SIDE)
        told = result.as_dict()
        write_report(files, finished, told, picture, response)
        write_json(files[2], told | {"response": response})
    return result


def _name_files(output: Path) -> list[Path]:
    """The files of a report that is named with one of its suffixes or without."""
    name = str(output)
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return [Path(f"{name}{suffix}") for suffix in SUFFIXES]


def _estimate(
    sampled: FinishedMap, answers: Answers, other: FinishedMap | None, files: list[Path]
) -> AreaEstimate:
    settings = answers.design.settings
    if settings.units == "polygons" and other is not None:
        raise SettingError("`strata`: is for pixels; this sample holds polygons of another map")
    sorting = _sort_polygons if settings.units == "polygons" else _sort_pixels
    parts, codes, mapped, guesses, weights, whole = sorting(sampled, answers, other)
    survey = _survey(parts, codes, mapped, answers.true, guesses, weights)
    extremes = [
        _survey(parts, codes, mapped, np.where(answers.true < 0, one, answers.true), None, weights)
        for one in (0, 1)
    ]
    pixels = settings.units == "pixels"
    by_number = None
    if not pixels:
        by_number = _survey(parts, codes, mapped, answers.true, None, None, by_number=True)
    known = answers.true >= 0
    # Nothing is known of mapped change where no place was drawn from it.
    told = pixels and (whole == 0 or bool(mapped.any()))
    return AreaEstimate(
        design=answers.design,
        strata=[
            StratumAnswers(
                part.name, part.mapped, part.area, int((known & (codes == part.code)).sum()),
                int((answers.true[codes == part.code] == 1).sum()),
            )
            for part in parts
        ],
        mapped=whole,
        total=sum(part.area for part in parts),
        change=survey.area(1),
        no_change=survey.area(0) if pixels else None,
        assisted=survey.assisted_area() if pixels and other is None else None,
        overall=survey.overall() if pixels else None,
        users=[survey.users(0), survey.users(1)],
        producers=[survey.producers(0), survey.producers(1)] if told else [None, None],
        users_by_number=None if by_number is None else by_number.users(1),
        counts=survey.counts().tolist(),
        shares=survey.matrix().tolist(),
        unsure_none=extremes[0].area(1).value,
        unsure_all=extremes[1].area(1).value,
        reviewers=answers.reviewers,
        agreements=answers.agreements,
        seconds=answers.seconds,
        deviations=_tell_deviations(answers, other),
        files=files,
    )  # fmt: skip


Sorted = tuple[
    list[Stratum], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64] | None,
    NDArray[np.float64] | None, float,
]  # fmt: skip
"""The strata; for each place its stratum, its class on the map, its probability, its weight; and
the area that the map calls change."""


def _sort_pixels(sampled: FinishedMap, answers: Answers, other: FinishedMap | None) -> Sorted:
    settings = answers.design.settings
    strata = Strata(sampled, settings)
    parts = strata.describe()
    codes, guesses = strata.look_up(answers.rows, answers.columns)
    if (codes == NO_DATA).any():
        number = answers.ids[codes == NO_DATA][0]
        raise DataError(f"{sampled.folder}: has no data at place {number} of the sample")
    whole = _mapped_area(other, parts)
    classes = {part.code: part.mapped for part in parts}
    mapped = np.array([classes[code] for code in codes.tolist()], np.int64)
    weights = None
    if settings.design == "systematic":
        weights = strata.areas.at(answers.rows, answers.columns)
        parts, codes = _join_strata(parts, mapped, answers.true)
    if other is not None:
        seen, _ = Strata(other, settings.replace(levels=())).look_up(answers.rows, answers.columns)
        if (seen == NO_DATA).any():
            raise DataError(f"{other.folder}: has no data at some places of the sample")
        mapped = (seen == ZONES.index(CHANGE)).astype(np.int64)
    return parts, codes, mapped, guesses, weights, whole


def _join_strata(
    parts: list[Stratum], mapped: NDArray[np.int64], true: NDArray[np.int64]
) -> tuple[list[Stratum], NDArray[np.int64]]:
    """A regular grid has no strata: its places are sorted by the classes of the map afterwards.

    Where a class has too few answers, all places are one stratum.
    """
    counts = np.bincount(mapped[true >= 0], minlength=2)
    there = {part.mapped for part in parts}
    single = any(counts[one] < LEAST_POINTS for one in there)
    codes = np.zeros_like(mapped) if single else mapped
    groups = [parts] if single else [[p for p in parts if p.mapped == one] for one in sorted(there)]
    joined = []
    for group in groups:
        area = sum(part.area for part in group)
        guess = sum(part.mean_guess * part.area for part in group) / area
        code = 0 if single else group[0].mapped
        name = "all of the map" if single else CLASSES[code]
        pixels = sum(part.pixels for part in group)
        joined.append(Stratum(code, name, code, pixels, area, guess))
    return joined, codes


def _sort_polygons(sampled: FinishedMap, answers: Answers, other: FinishedMap | None) -> Sorted:
    changes, codes, parts = divide_changes(sampled, answers.design.settings)
    tree = shapely.STRtree([change.outline for change in changes])
    points = shapely.points(answers.columns + 0.5, answers.rows + 0.5)
    nearest = tree.nearest(points)
    areas = np.array([change.area for change in changes])[nearest]
    ones = np.ones(len(nearest), np.int64)
    return parts, codes[nearest], ones, None, areas, _mapped_area(None, parts)


def _survey(
    parts: Sequence[Stratum],
    codes: NDArray[np.int64],
    mapped: NDArray[np.int64],
    true: NDArray[np.int64],
    guesses: NDArray[np.float64] | None,
    weights: NDArray[np.float64] | None,
    *,
    by_number: bool = False,
) -> Survey:
    """The answered places as a stratified sample; by ground, or by number of units."""
    strata = []
    for part in parts:
        here = (codes == part.code) & (true >= 0)
        count = int(here.sum())
        if count < min(LEAST_POINTS, part.pixels):
            raise DataError(
                f"the stratum {part.name} has {counted(count, 'answer')}, and {LEAST_POINTS} are "
                "the least: answer more places"
            )
        strata.append(
            Answered(
                part.pixels if by_number else part.area,
                part.pixels,
                mapped[here],
                true[here],
                None if weights is None else weights[here],
                None if guesses is None else guesses[here],
                part.mean_guess,
            )
        )
    return Survey(strata)


def _mapped_area(other: FinishedMap | None, parts: Sequence[Stratum]) -> float:
    if other is not None:
        parts = Strata(other, SampleSettings()).describe()
    return sum(part.area for part in parts if part.mapped)


def _tell_deviations(answers: Answers, other: FinishedMap | None) -> list[str]:
    said = []
    missing = answers.design.points - len(answers.ids)
    if missing:
        first = answers.ids.tolist() == [*range(1, len(answers.ids) + 1)]
        order = (
            "The first places were answered, and places are in random order."
            if first
            else ("Their answers may differ from those of the others.")
        )
        said.append(f"{counted(missing, 'place')} without an answer. {order}")
    if answers.unsure:
        said.append(f"{counted(answers.unsure, 'place')} with the answer unsure, left out.")
    if answers.disputed:
        said.append(f"{counted(answers.disputed, 'place')} on which reviewers differ, left out.")
    if answers.design.settings.design == "systematic":
        said.append(
            "The grid is regular. Its standard errors are those of a random sample, which are "
            "mostly larger."
        )
    if other is not None:
        said.append("The sample was drawn from another map. Accuracies are ratios of estimates.")
    return said

"""Decisions of a review: they are no probability sample, and give user's accuracy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctma.errors import DataError
from ctma.review.decisions import Agreement, Decision, compare_reviewers
from ctma.review.scenes import read_scene_changes
from ctma.review.verdicts import judge_changes
from ctma.scene.finished import FinishedMap


@dataclass(frozen=True)
class Census:
    """What decisions on mapped changes say. No area follows: nobody looked at the rest of the map.

    Attributes:
        changes: Number of mapped changes.
        right: Number that are right.
        wrong: Number that are wrong.
        users: User's accuracy by number: right ones among those decided.
        users_by_area: User's accuracy by area.
        users_least: User's accuracy by area if each change without a certain verdict were wrong.
        users_most: User's accuracy by area if each change without a certain verdict were right.
        reviewers: Their names.
        agreements: How far reviewers agree.
        files: The files that were written.
    """

    changes: int
    right: int
    wrong: int
    users: float
    users_by_area: float
    users_least: float
    users_most: float
    reviewers: list[str]
    agreements: list[Agreement]
    files: list[Path]

    def as_dict(self) -> dict[str, Any]:
        """All values as plain ones."""
        agreements = [agreement._asdict() for agreement in self.agreements]
        files = [str(path) for path in self.files]
        return asdict(self) | {"agreements": agreements, "files": files}


def count_verdicts(
    finished: FinishedMap,
    decisions: Sequence[Sequence[Decision]],
    paths: Sequence[Path],
    files: list[Path],
) -> Census:
    """Counts the verdicts on the changes of a map.

    Raises:
        DataError: If nobody decided on a change, or decisions are about changes that are not there.
    """
    changes = read_scene_changes(finished)
    judged = judge_changes(decisions, paths, [("", change.id) for change in changes])
    verdicts = np.array([one.verdict or "" for one in judged])
    areas = np.array([change.area for change in changes])
    right, wrong = verdicts == "right", verdicts == "wrong"
    decided = right | wrong
    if not decided.any():
        raise DataError(f"{paths[0]}: holds no decision of right or wrong on a change of the map")
    return Census(
        changes=len(changes),
        right=int(right.sum()),
        wrong=int(wrong.sum()),
        users=float(right.sum() / decided.sum()),
        users_by_area=float(areas[right].sum() / areas[decided].sum()),
        users_least=float(areas[right].sum() / areas.sum()),
        users_most=float(areas[~wrong].sum() / areas.sum()),
        reviewers=sorted({one.reviewer for file in decisions for one in file if one.reviewer}),
        agreements=compare_reviewers(decisions, paths),
        files=files,
    )

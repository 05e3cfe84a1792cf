"""Checks the data of a benchmark; the benchmark's folder stores the findings."""

from __future__ import annotations

from pathlib import Path

from ctma.benchmark.cell import SPLIT
from ctma.benchmark.plan import BenchmarkPlan, Budget
from ctma.benchmark.record import read_kept
from ctma.data.doctor import check
from ctma.data.images import read_shorter_side
from ctma.data.readers import data_fingerprint
from ctma.errors import DataError, SettingError
from ctma.files import write_json
from ctma.types import MINIMUM_SIZE, counted

HEALTH = "health.json"

SHARED = ("shared scene", "shared ground")
FATAL = ("unreadable", "unequal sizes", "label values", "unvaried")
"""Kinds of findings that would stop a training, or worse, the scoring after the training."""


def check_crops(plan: BenchmarkPlan) -> None:
    """Refuses crops larger than an image: the training would see less than its budget.

    Raises:
        SettingError: If an image of the training split is smaller.
        CtmaError: If the data cannot be read.
    """
    if plan.budget is None:
        return
    images = [pair.before for pair in plan.pairs("train")]
    least, path = min((read_shorter_side(image), image) for image in images)
    if Budget.parse(plan.budget).crop > least:
        advice = f"take crops of at most {least}"
        if least < MINIMUM_SIZE:
            advice = f"training takes {MINIMUM_SIZE} and more"
        raise SettingError(f"`budget` {plan.budget}: {path} has {least} pixels; {advice}")


def check_health(plan: BenchmarkPlan, output: Path, allow_leak: str | None) -> None:
    """Refuses data on which scores would be misleading.

    Args:
        plan: The plan, which names the data.
        output: The benchmark's folder, which stores the findings.
        allow_leak: The name of the data folder, if splits may show scenes of the test split.

    Raises:
        DataError: If the data changed since the start of the benchmark, if they would stop a
            training or its scoring, or if a split has no change or shows scenes of the test
            split.
    """
    data, path = Path(plan.data), output / HEALTH
    splits = {split: data_fingerprint(plan.pairs(split)) for split in ("train", "val", SPLIT)}
    health = read_kept(path)
    if health and health["splits"] != splits:
        changed = [split for split in splits if health["splits"].get(split) != splits[split]]
        raise DataError(
            f"{data}: {', '.join(changed)} changed since {output} was begun; name a new folder"
        )
    if splits["val"] == splits[SPLIT]:
        raise DataError(f"{data}: val and {SPLIT} are the same pairs; pick on others than test")
    if not health:
        health = {"data": data.name, "splits": splits, "leaks": _find_leaks(plan)}
    for split, leaks in health["leaks"].items():
        if leaks and allow_leak != data.name:
            raise DataError(
                f"{data}: {split} shows scenes of {SPLIT} ({counted(len(leaks), 'case')}, such as "
                f"{leaks[0]}), so no score there means anything; to go on anyway, name it: "
                f"`allow_leak` {data.name}"
            )
    write_json(path, health)


def _find_leaks(plan: BenchmarkPlan) -> dict[str, list[str]]:
    """Finds scenes of the test split in training and validation; refuses fatal findings."""
    findings = check(plan.data, folders=plan.folders).findings
    for one in findings:
        if one.kind in FATAL and one.where.partition("/")[0] in ("train", "val", SPLIT):
            raise DataError(f"{plan.data}: {one.where}: {one.what}; ctma check shows all")
    shared = [one.where for one in findings if one.kind in SHARED]
    return {
        split: [one for one in shared if one.startswith(f"{split}/") and f" and {SPLIT}/" in one]
        for split in ("train", "val")
    }

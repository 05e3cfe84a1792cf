"""Whether data can be trusted with a benchmark; what was found is kept in its folder."""

from __future__ import annotations

from pathlib import Path

from ctma.benchmark.cell import SPLIT
from ctma.benchmark.plan import Budget, Plan
from ctma.benchmark.record import read_kept
from ctma.data.doctor import check
from ctma.data.images import read_shorter_side
from ctma.data.readers import data_fingerprint
from ctma.errors import DataError, SettingError
from ctma.files import write_json
from ctma.types import MINIMUM_SIZE, counted

HEALTH = "health.json"

FATAL = ("unreadable", "unequal sizes", "label values", "unvaried")
"""What the doctor finds that would end a training, or worse, the score after it."""


def check_crops(plan: Plan) -> None:
    """Refuses crops larger than an image: less would be seen than the budget says.

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


def check_health(plan: Plan, output: Path, allow_leak: str | None) -> None:
    """Refuses data with which no score would mean what a table says.

    Args:
        plan: Says which data.
        output: The benchmark's folder, which keeps what was found.
        allow_leak: The name of the data folder, if splits may show scenes of the test split.

    Raises:
        DataError: If they changed since the benchmark was begun, a training or its score would
            stumble over them, a split is without any change, or shows scenes of the test split.
    """
    data, path = Path(plan.data), output / HEALTH
    splits = {split: data_fingerprint(plan.pairs(split)) for split in ("train", "val", SPLIT)}
    known = read_kept(path)
    if known and known["splits"] != splits:
        changed = [split for split in splits if known["splits"].get(split) != splits[split]]
        raise DataError(
            f"{data}: {', '.join(changed)} changed since {output} was begun; name a new folder"
        )
    if splits["val"] == splits[SPLIT]:
        raise DataError(f"{data}: val and {SPLIT} are the same pairs; pick on others than test")
    if not known:
        known = {"data": data.name, "splits": splits, "leaks": _find_leaks(plan)}
    for split, leaks in known["leaks"].items():
        if leaks and allow_leak != data.name:
            raise DataError(
                f"{data}: {split} shows scenes of {SPLIT} ({counted(len(leaks), 'case')}, such as "
                f"{leaks[0]}), so no score there means anything; to go on anyway, name it: "
                f"`allow_leak` {data.name}"
            )
    write_json(path, known)


def _find_leaks(plan: Plan) -> dict[str, list[str]]:
    """Where training and validation show scenes of the test split; what is fatal is refused."""
    findings = check(plan.data, folders=plan.folders).findings
    for one in findings:
        if one.kind in FATAL and one.where.partition("/")[0] in ("train", "val", SPLIT):
            raise DataError(f"{plan.data}: {one.where}: {one.what}; ctma check shows all")
    shared = [one.where for one in findings if one.kind == "shared scene"]
    return {
        split: [one for one in shared if one.startswith(f"{split}/") and f" and {SPLIT}/" in one]
        for split in ("train", "val")
    }

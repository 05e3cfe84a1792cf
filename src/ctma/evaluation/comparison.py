"""Scores side by side, from wherever they are kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ctma.checkpoints.header import read_header
from ctma.errors import DataError

SAME = ("data", "split", "protocol", "tta", "enlargement")
"""What two scores must have in common so that they compare."""


def read_scores(source: str | Path) -> list[dict[str, Any]]:
    """The score records of a score file, a checkpoint, or a run's best checkpoint.

    Args:
        source: A ``scores-….json``, a checkpoint of ours, the name of a shipped one, or the
            folder of a run.

    Returns:
        Records as ``ScoreRecord`` has them, ratios in [0, 1]; of a checkpoint with the ``epoch``
        that it was kept after.

    Raises:
        DataError: If it holds no scores.
        CheckpointError: If it is no checkpoint and no score file.
    """
    path = Path(source)
    if path.suffix == ".json":
        try:
            record = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read as a score file ({error})") from error
        shown = ("f1", "precision", "recall", "iou")
        if not isinstance(record, dict) or not all(
            isinstance(record.get(name), int | float) for name in shown
        ):
            raise DataError(f"{path}: holds no scores")
        return [record]
    header = read_header(source)
    if not header.scores:
        raise DataError(f"{path}: its header holds no scores; ctma eval takes some")
    return [{"network": header.network, **score, "epoch": header.epoch} for score in header.scores]


def differences(records: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A line for each thing that keeps scores from being compared."""
    for name in SAME:
        values = {json.dumps(record[name]) for record in records if name in record}
        if len(values) > 1:
            yield f"these scores differ in {name} ({', '.join(sorted(values))}), so do not compare"

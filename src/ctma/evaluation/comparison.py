"""Reads scores from runs, checkpoints and files, and compares them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from ctma.checkpoints.header import read_header
from ctma.errors import DataError, warn
from ctma.evaluation.records import KeptScore

SAME = ("data", "split", "protocol", "views", "enlargement")
"""The fields that must be equal in comparable scores."""


def compare(sources: Sequence[str | Path]) -> list[KeptScore]:
    """Reads the scores of runs, checkpoints and score files for a comparison.

    Warns about each field that makes the scores not comparable.

    Args:
        sources: Each source is a ``scores-….json`` file, a ctma checkpoint, the name of a shipped
            checkpoint, or the folder of a run. A run's best checkpoint is used.

    Raises:
        DataError: If a source holds no scores.
        CheckpointError: If a source is no checkpoint and no score file.
    """
    scores = [score for source in sources for score in read_scores(source)]
    for line in _differences(scores):
        warn(line)
    return scores


def read_scores(source: str | Path) -> list[KeptScore]:
    """The scores of one source; see ``compare``."""
    path = Path(source)
    if path.suffix == ".json":
        try:
            return [
                KeptScore.model_validate({**json.loads(path.read_bytes()), "source": str(path)})
            ]
        except ValidationError as error:
            raise DataError(f"{path}: holds no scores") from error
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{path}: cannot be read as a score file ({error})") from error
    header = read_header(source)
    if not header.scores:
        raise DataError(f"{path}: its header holds no scores; ctma eval takes some")
    origin = {"source": str(source), "epoch": header.epoch}
    return [
        KeptScore.model_validate({"network": header.network, **score, **origin})
        for score in header.scores
    ]


def _differences(scores: Sequence[KeptScore]) -> Iterator[str]:
    """Yields a line for each field that makes the scores not comparable."""
    for name in SAME:
        values = {json.dumps(getattr(one, name)) for one in scores if name in one.model_fields_set}
        if len(values) > 1:
            yield f"these scores differ in {name} ({', '.join(sorted(values))}), so do not compare"

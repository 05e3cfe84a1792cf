"""Scores side by side, from wherever they are kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from ctma.checkpoints.header import read_header
from ctma.errors import DataError, warn
from ctma.evaluation.records import KeptScore

SAME = ("data", "split", "protocol", "tta", "enlargement")
"""What two scores must have in common so that they compare."""


def compare(sources: Sequence[str | Path]) -> list[KeptScore]:
    """The scores of runs, checkpoints and score files, to be put side by side.

    Warns of each thing that keeps the scores from being compared.

    Args:
        sources: Each a ``scores-….json``, a checkpoint of ours, the name of a shipped one, or the
            folder of a run, whose best checkpoint is taken.

    Raises:
        DataError: If one holds no scores.
        CheckpointError: If one is no checkpoint and no score file.
    """
    scores = [score for source in sources for score in read_scores(source)]
    for line in _differences(scores):
        warn(line)
    return scores


def read_scores(source: str | Path) -> list[KeptScore]:
    """The scores of one source; see :func:`compare`."""
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
    known = {"source": str(source), "epoch": header.epoch}
    return [
        KeptScore.model_validate({"network": header.network, **score, **known})
        for score in header.scores
    ]


def _differences(scores: Sequence[KeptScore]) -> Iterator[str]:
    """A line for each thing that keeps scores from being compared."""
    for name in SAME:
        values = {json.dumps(getattr(one, name)) for one in scores if name in one.model_fields_set}
        if len(values) > 1:
            yield f"these scores differ in {name} ({', '.join(sorted(values))}), so do not compare"

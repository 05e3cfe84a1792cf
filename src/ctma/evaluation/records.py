"""The record of a score: the score with how it was taken, without which it means nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ConfigDict, Field

from ctma._version import __version__
from ctma.evaluation.metrics import Scores
from ctma.settings import Form


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


class HowScored(Form):
    """How a score was taken.

    Attributes:
        network: Its name.
        arguments: Those it was made with.
        checkpoint_name: The checkpoint's file, ``None`` where there is none, as in a training.
        checkpoint: Its fingerprint.
        data_name: The data folder.
        data: Its fingerprint.
        pairs: How many were scored.
        labels: How they are stored, ``"0/1"`` or ``"0/255"``.
        split: Which split.
        protocol: How the network was run over the images.
        threshold: Change is where the probability exceeds it.
        tta: Whether flipped views were averaged.
        ground_sample_distance: Metres a pixel, where it was told.
        enlargement: How much larger the network saw the images.
        arithmetic: The precision, such as ``"float32"``.
        engine: What ran the network.
        ctma_version: The version that took the score.
        date: The day, in UTC.
    """

    network: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    checkpoint_name: str | None = None
    checkpoint: str | None = None
    data_name: str
    data: str
    pairs: int
    labels: str
    split: str
    protocol: str
    threshold: float
    tta: bool = False
    ground_sample_distance: float | None = None
    enlargement: float = 1.0
    arithmetic: str
    engine: str
    ctma_version: str = __version__
    date: str = Field(default_factory=_today)

    def as_dict(self) -> dict[str, Any]:
        """Plain values by name."""
        return self.model_dump(mode="json")


@dataclass(frozen=True)
class ScoreRecord:
    """A score with how it was taken.

    Attributes:
        how: How it was taken.
        scores: What came out.
    """

    how: HowScored
    scores: Scores

    def as_dict(self) -> dict[str, Any]:
        """Plain values by name, ratios in [0, 1], as ``scores-….json`` holds them."""
        return {**self.how.as_dict(), **self.scores.as_dict()}


class KeptScore(Form):
    """A score as a file or a checkpoint keeps it, of whichever version of ctma.

    Attributes:
        source: Where it was found.
        network: The network's name.
        epoch: The epoch that a checkpoint was kept after.
        data_name: The data folder.
        data: The fingerprint of the pairs.
        split: Which split.
        protocol: How the network was run over the images.
        tta: Whether flipped views were averaged.
        enlargement: How much larger the network saw the images.
        threshold: Change is where the probability exceeds it.
        f1: In [0, 1], as the other ratios.
        precision: Share of the claimed change that is change.
        recall: Share of the change that was found.
        iou: Intersection over union.
    """

    model_config = ConfigDict(extra="allow")

    source: str
    network: str = ""
    epoch: int | None = None
    data_name: str = ""
    data: str | None = None
    split: str = ""
    protocol: str = ""
    tta: bool | None = None
    enlargement: float | None = None
    threshold: float | None = None
    f1: float
    precision: float
    recall: float
    iou: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values by name, those that the file holds."""
        return self.model_dump(mode="json", exclude_unset=True)

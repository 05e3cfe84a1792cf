"""The record of a score: the score, and how it was computed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator

from ctma._version import __version__
from ctma.evaluation.metrics import Scores
from ctma.settings import Form

ONE_VIEW = (1.0,)
FORMER_VIEWS = (1.0, 1.0, 1.0, 1.0)
"""Scales of the four flipped views that ``tta`` averaged before ``views`` were recorded."""


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


class _Views(Form):
    """Adds the views of scores from before these were recorded."""

    @model_validator(mode="after")
    def _know_former_views(self) -> Self:
        known = self.model_fields_set
        if "tta" in known and "views" not in known:
            former = FORMER_VIEWS if getattr(self, "tta", False) else ONE_VIEW
            object.__setattr__(self, "views", former)
            known.add("views")
        return self


class HowScored(_Views):
    """How a score was computed.

    Attributes:
        network: The network's name.
        arguments: The network's arguments.
        checkpoint_name: The checkpoint's file name, ``None`` without a file, as in a training.
        checkpoint: The checkpoint's fingerprint.
        data_name: The name of the data folder.
        data: The fingerprint of the pairs.
        pairs: Number of scored pairs.
        labels: Label values on disk, ``"0/1"`` or ``"0/255"``.
        split: The split that was scored.
        protocol: How the network was run over the images.
        threshold: A pixel is change if its probability exceeds the threshold.
        tta: Whether four views were averaged.
        views: The scale of each view whose logits were averaged.
        ground_sample_distance: Metres per pixel of the images, if specified.
        enlargement: Factor by which the images were enlarged for the network.
        arithmetic: The precision, such as ``"float32"``.
        engine: What ran the network.
        ctma_version: The version of ctma that computed the score.
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
    views: tuple[float, ...] = ONE_VIEW
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
    """A score, and how it was computed.

    Attributes:
        how: How the score was computed.
        scores: The scores.
    """

    how: HowScored
    scores: Scores

    def as_dict(self) -> dict[str, Any]:
        """Plain values by name, ratios in [0, 1], as ``scores-….json`` holds them."""
        return {**self.how.as_dict(), **self.scores.as_dict()}


class KeptScore(_Views):
    """A score as stored in a file or a checkpoint, by any version of ctma.

    Attributes:
        source: The file, checkpoint or run that the score was read from.
        network: The network's name.
        epoch: The epoch after which the checkpoint was saved.
        data_name: The name of the data folder.
        data: The fingerprint of the pairs.
        split: The split that was scored.
        protocol: How the network was run over the images.
        tta: Whether four views were averaged.
        views: The scale of each view whose logits were averaged.
        enlargement: Factor by which the images were enlarged for the network.
        threshold: A pixel is change if its probability exceeds the threshold.
        f1: F1 in [0, 1], as the other ratios.
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
    views: tuple[float, ...] | None = None
    enlargement: float | None = None
    threshold: float | None = None
    f1: float
    precision: float
    recall: float
    iou: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values by name, only those that the source holds."""
        return self.model_dump(mode="json", exclude_unset=True)

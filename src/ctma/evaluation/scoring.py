"""How a score is taken, and the one record that every score is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

from ctma._version import __version__
from ctma.data.dataset import Batch, PairDataset, collate_by_size
from ctma.data.pairs import Pair, find_label_scale
from ctma.data.readers import data_fingerprint
from ctma.devices import read_precision
from ctma.evaluation.metrics import ConfusionMatrix, Scores
from ctma.inference.engines.choice import check_engine, choose, prepare
from ctma.inference.images import check_takes_images
from ctma.inference.protocols import find_protocol
from ctma.inference.resolution import check_given_distance, find_enlargement
from ctma.inference.views import evaluating, look_as
from ctma.models.base import ChangeNetwork
from ctma.settings import (
    change_settings,
    check_count,
    check_distance,
    check_threshold,
    settle,
)
from ctma.types import Pixels, Plane, ignore


@dataclass(frozen=True)
class Scoring:
    """How a score is taken.

    Attributes:
        protocol: ``"crops"``, ``"whole"`` or ``"sliding"``.
        threshold: Change is where the probability exceeds it; the checkpoint's by default.
        tta: Average over flipped views; takes four times as long.
        ground_sample_distance: Metres a pixel of the images; where given, the network sees
            them enlarged or reduced to the distance it was trained at.
        precision: ``"float32"``, ``"bf16"``, or ``"auto"``, see :func:`ctma.prepare`.
        engine: What runs the network, see there.
        cache: Whether what an engine prepares is kept on disk for the next start.

    Raises:
        SettingError: If a value is out of its range.
        UnknownNameError: If there is no such protocol, engine or precision.
    """

    protocol: str = "crops"
    threshold: float | None = None
    tta: bool = False
    ground_sample_distance: float | None = None
    precision: str = "auto"
    engine: str = "auto"
    cache: bool = True

    def __post_init__(self) -> None:
        settle(self)
        find_protocol(self.protocol)
        read_precision(self.precision)
        check_engine(self.engine)
        check_threshold(self.threshold)
        check_distance(self.ground_sample_distance)

    def threshold_for(self, network: ChangeNetwork) -> float:
        """The threshold, that of the network where none is given."""
        return network.usage.threshold if self.threshold is None else self.threshold


@dataclass(frozen=True)
class ScoreRecord:
    """A score with how it was taken; a score without it means nothing.

    Attributes:
        network: Its name.
        arguments: Those it was made with.
        checkpoint_name: The checkpoint's file, ``None`` in a training, where it is none yet.
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
        results: What came out, by name; ratios in [0, 1].
    """

    network: str
    arguments: Mapping[str, Any]
    checkpoint_name: str | None
    checkpoint: str | None
    data_name: str
    data: str
    pairs: int
    labels: str
    split: str
    protocol: str
    threshold: float
    tta: bool
    ground_sample_distance: float | None
    enlargement: float
    arithmetic: str
    engine: str
    ctma_version: str
    date: str
    results: Mapping[str, float | int]

    def as_dict(self) -> dict[str, Any]:
        """Plain values by name; the results stand beside the rest."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        results = named.pop("results")
        return {**named, **results}


@dataclass(frozen=True)
class Judged:
    """One pair with what the network says of it.

    Attributes:
        pair: The pair on disk.
        before: (H, W, 3) uint8.
        after: (H, W, 3) uint8.
        change: (H, W) uint8, 0 or 1.
        probability: (H, W) float32.
        mask: (H, W) uint8, 0 or 1.
    """

    pair: Pair
    before: Pixels
    after: Pixels
    change: Pixels
    probability: Plane
    mask: Pixels


def score_pairs(
    network: ChangeNetwork,
    pairs: Sequence[Pair],
    scoring: Scoring | None = None,
    *,
    batch_size: int = 1,
    workers: int = 0,
    on_pair: Callable[[Judged], None] = ignore,
) -> Scores:
    """Scores over all pixels of some labelled pairs.

    Args:
        network: In evaluation mode, on the device that does the work.
        pairs: Labelled pairs.
        scoring: How; the defaults if none is given.
        batch_size: Pairs at a time.
        workers: Loader processes.
        on_pair: Called with every pair once it is judged.

    Raises:
        SettingError: If the network takes other bands, or does not know its own distance
            where one is given.
        ImageError: If an image is unreadable or sizes differ.
    """
    scoring = change_settings(Scoring, scoring, {})
    check_count("batch_size", batch_size)
    check_count("workers", workers, least=0)
    check_takes_images(network)
    check_given_distance(network, scoring.ground_sample_distance)
    threshold = scoring.threshold_for(network)
    run = find_protocol(scoring.protocol)
    ratio = find_enlargement(network, scoring.ground_sample_distance)
    dataset = PairDataset(pairs, find_label_scale(pairs))
    loader = DataLoader(dataset, batch_size, num_workers=workers, collate_fn=collate_by_size)
    confusion = ConfusionMatrix(threshold).to(network.device)
    with evaluating(network):
        prepared = prepare(network, scoring.engine, scoring.precision, keep=scoring.cache)
        seen = look_as(prepared, enlargement=ratio, tta=scoring.tta)
        for batch in (batch for batches in loader for batch in batches):
            before, after = batch.before.to(network.device), batch.after.to(network.device)
            probability = run(seen, before, after)
            confusion.update(probability, batch.change.to(network.device))
            for row, index in enumerate(batch.indices.tolist()):
                on_pair(_judge(pairs[index], batch, probability, row, threshold))
    return confusion.scores()


def record_score(
    network: ChangeNetwork,
    pairs: Sequence[Pair],
    scoring: Scoring,
    results: Mapping[str, float | int],
    *,
    split: str,
    data_name: str,
    checkpoint_name: str | None = None,
    checkpoint: str | None = None,
    data: str | None = None,
    label_scale: int | None = None,
) -> ScoreRecord:
    """The record of a score.

    Args:
        network: What was scored, on the device that did the work.
        pairs: What it was scored on.
        scoring: How.
        results: What came out.
        split: Which split the pairs are.
        data_name: The data folder's name.
        checkpoint_name: The checkpoint's file, where there is one.
        checkpoint: Its fingerprint.
        data: The fingerprint of the pairs, if it is known already.
        label_scale: The stored value of change, if it is known already.
    """
    choice = choose(network, scoring.engine, scoring.precision)
    return ScoreRecord(
        network=network.name,
        arguments=network.arguments,
        checkpoint_name=checkpoint_name,
        checkpoint=checkpoint,
        data_name=data_name,
        data=data_fingerprint(pairs) if data is None else data,
        pairs=len(pairs),
        labels=f"0/{find_label_scale(pairs) if label_scale is None else label_scale}",
        split=split,
        protocol=scoring.protocol,
        threshold=scoring.threshold_for(network),
        tta=scoring.tta,
        ground_sample_distance=scoring.ground_sample_distance,
        enlargement=find_enlargement(network, scoring.ground_sample_distance),
        arithmetic=choice.precision,
        engine=choice.engine,
        ctma_version=__version__,
        date=datetime.now(UTC).date().isoformat(),
        results=results,
    )


def _judge(pair: Pair, batch: Batch, probabilities: Tensor, row: int, threshold: float) -> Judged:
    probability = probabilities[row, 0].cpu().numpy()
    return Judged(
        pair,
        before=batch.before[row].permute(1, 2, 0).numpy(),
        after=batch.after[row].permute(1, 2, 0).numpy(),
        change=batch.change[row, 0].numpy(),
        probability=probability,
        mask=(probability > threshold).astype(np.uint8),
    )

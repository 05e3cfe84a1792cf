"""Scores a network on labelled pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
import pydantic
from torch import Tensor
from torch.utils.data import DataLoader

from ctma.data.dataset import Batch, PairDataset, collate_by_size
from ctma.data.pairs import Coding, Pair, find_coding
from ctma.data.rasters import settle_usage
from ctma.data.readers import data_fingerprint
from ctma.evaluation.metrics import ConfusionMatrix, Scores
from ctma.evaluation.records import HowScored
from ctma.files import file_fingerprint
from ctma.inference.predictor import Predictor
from ctma.inference.protocols import find_protocol
from ctma.inference.resolution import check_given_distance, find_enlargement
from ctma.inference.views import see
from ctma.models.base import ChangeNetwork
from ctma.settings import Settings, check_count, check_distance, check_threshold
from ctma.types import Pixels, Plane, ignore


class Scoring(Settings):
    """How to score; the predictor determines the engine.

    Attributes:
        protocol: ``"crops"``, ``"whole"`` or ``"sliding"``.
        threshold: A pixel is change if its probability exceeds the threshold. The default is the
            checkpoint's threshold.
        ground_sample_distance: Metres per pixel of the images. If given, the images are enlarged
            or reduced to the network's training distance.
        batch_size: Pairs per batch.
        workers: Loader processes.

    Raises:
        SettingError: If a value is out of its range.
        UnknownNameError: If there is no such protocol.
    """

    protocol: str = "crops"
    threshold: float | None = None
    ground_sample_distance: float | None = None
    batch_size: int = 1
    workers: int = 0

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        find_protocol(self.protocol)
        check_threshold(self.threshold)
        check_distance(self.ground_sample_distance)
        check_count("batch_size", self.batch_size)
        check_count("workers", self.workers, least=0)
        return self

    def threshold_for(self, network: ChangeNetwork) -> float:
        """The threshold; by default the network's threshold."""
        return network.usage.threshold if self.threshold is None else self.threshold


@dataclass(frozen=True)
class Judged:
    """One pair with the network's probability and mask.

    Attributes:
        pair: The pair on disk.
        before: (H, W, 3) uint8.
        after: (H, W, 3) uint8.
        change: (H, W) uint8: 0, 1 or ``IGNORED``.
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
    predictor: Predictor,
    pairs: Sequence[Pair],
    scoring: Scoring | None = None,
    *,
    on_pair: Callable[[Judged], None] = ignore,
) -> Scores:
    """Computes the scores over all pixels of labelled pairs.

    Args:
        predictor: The network, and how it runs.
        pairs: Labelled pairs.
        scoring: How to score; the default settings if ``None``.
        on_pair: Called with every judged pair.

    Raises:
        SettingError: If a ground sample distance is given and the network has none.
        ImageError: If an image is unreadable, lacks bands of the network, or sizes differ.
    """
    scoring = scoring or Scoring()
    network = predictor.network
    check_given_distance(network.usage, scoring.ground_sample_distance)
    threshold = scoring.threshold_for(network)
    run = find_protocol(scoring.protocol)
    ratio = find_enlargement(network.usage, scoring.ground_sample_distance)
    loader = DataLoader(
        PairDataset(pairs, find_coding(pairs), usage=settle_usage(network.usage, pairs)),
        scoring.batch_size,
        num_workers=scoring.workers,
        collate_fn=collate_by_size,
    )
    confusion = ConfusionMatrix(threshold).to(network.device)
    with predictor.looking(ratio) as seen:
        for batch in (batch for batches in loader for batch in batches):
            before, after = batch.before.to(network.device), batch.after.to(network.device)
            probability = run(partial(see, seen), before, after)
            confusion.update(probability, batch.change.to(network.device))
            for row, index in enumerate(batch.indices.tolist()):
                on_pair(_judge(pairs[index], batch, probability, row, threshold))
    return confusion.scores()


def tell_how(
    predictor: Predictor,
    pairs: Sequence[Pair],
    scoring: Scoring,
    *,
    split: str,
    data_name: str,
    data: str | None = None,
    coding: Coding | None = None,
) -> HowScored:
    """Describes how a score was computed.

    Args:
        predictor: The scored network, and how it ran.
        pairs: The scored pairs.
        scoring: How the pairs were scored.
        split: The split of the pairs.
        data_name: The data folder's name.
        data: The fingerprint of the pairs, if already known.
        coding: The stored values of the labels, if already known.
    """
    network, source = predictor.network, predictor.source
    return HowScored(
        network=network.name,
        arguments=network.arguments,
        checkpoint_name=None if source is None else source.name,
        checkpoint=None if source is None else file_fingerprint(source),
        data_name=data_name,
        data=data_fingerprint(pairs) if data is None else data,
        pairs=len(pairs),
        labels=str(coding or find_coding(pairs)),
        split=split,
        protocol=scoring.protocol,
        threshold=scoring.threshold_for(network),
        tta=predictor.running.tta,
        views=tuple(scale for _, scale in predictor.running.views),
        ground_sample_distance=scoring.ground_sample_distance,
        enlargement=find_enlargement(network.usage, scoring.ground_sample_distance),
        arithmetic=predictor.precision,
        engine=predictor.engine,
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

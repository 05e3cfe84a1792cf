"""Calibrates a checkpoint's probability by Platt scaling.

Platt scaling divides the logits by a temperature and adds an offset. Temperature and offset make
the labels of a validation split most likely (J. Platt, "Probabilistic Outputs for Support Vector
Machines", 1999). A temperature alone (C. Guo et al., "On Calibration of Modern Neural Networks",
2017) cannot correct the bias of a training that shows more change than there is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np

from ctma.checkpoints.store import save_model
from ctma.data.pairs import Pair
from ctma.engines.choice import candidates
from ctma.errors import DataError
from ctma.evaluation.choosing import name_data, open_choice
from ctma.evaluation.logits import LogitHistogram
from ctma.evaluation.reliability import ObjectTally
from ctma.evaluation.scoring import Judged, Scoring, score_pairs, tell_how
from ctma.inference.predictor import Model, Predictor
from ctma.models.usage import Usage
from ctma.types import Pixels, Progress, ignore

THRESHOLDS = np.arange(5, 96) / 100


@dataclass(frozen=True)
class Calibration:
    """The result of a calibration.

    Attributes:
        temperature: The divisor of the logits.
        offset: Added to the logits after the division.
        threshold: The threshold with the highest F1 after calibration, in hundredths.
        error_before: Expected calibration error of the probability of change, in [0, 1].
        error_by_temperature: Calibration error after the best temperature without an offset.
        error_after: Calibration error after temperature and offset.
        f1_before: F1 at a threshold of 0.5, before calibration.
        f1_after: F1 at ``threshold``, after calibration.
        agreement: For each faster engine and precision available here, the share of pixels with
            the same mask as in float32.
        object_temperature: As ``temperature``, for the mean probability of an object.
        object_offset: As ``offset``, for the mean probability of an object.
        error_of_objects_before: Mean difference of what is said of objects and the share that is
            right, before.
        error_of_objects_after: The same difference after.
    """

    temperature: float
    offset: float
    threshold: float
    error_before: float
    error_by_temperature: float
    error_after: float
    f1_before: float
    f1_after: float
    agreement: dict[str, float] = field(default_factory=dict)
    object_temperature: float = 1.0
    object_offset: float = 0.0
    error_of_objects_before: float | None = None
    error_of_objects_after: float | None = None

    def put_into(self, usage: Usage) -> Usage:
        """A copy of ``usage`` with this temperature, offset and threshold."""
        return usage.replace(
            temperature=self.temperature,
            offset=self.offset,
            threshold=self.threshold,
            object_temperature=self.object_temperature,
            object_offset=self.object_offset,
        )

    def with_objects(self, tally: ObjectTally) -> Calibration:
        """The same calibration, with that of objects where there are enough."""
        if not tally.enough:
            return self
        histogram = LogitHistogram()
        histogram.add(np.array(tally.said, np.float32), np.array(tally.right, np.uint8))
        temperature, offset = (round(value, 4) for value in histogram.scaling())
        usage = Usage(object_temperature=temperature, object_offset=offset)
        return replace(
            self,
            object_temperature=temperature,
            object_offset=offset,
            error_of_objects_before=tally.error(),
            error_of_objects_after=tally.scaled(usage).error(),
        )


def fit_calibration(histogram: LogitHistogram) -> Calibration:
    """Finds temperature, offset and threshold from the logits of a validation split.

    Raises:
        DataError: If the split has no changed pixels, or no unchanged pixels.
    """
    if not histogram.counts.sum(axis=1).all():
        raise DataError("calibration needs changed and unchanged pixels, the labels have one kind")
    temperature, offset = (round(value, 4) for value in histogram.scaling())
    alone, _ = histogram.scaling(with_offset=False)
    scores = [histogram.f1(threshold, temperature, offset) for threshold in THRESHOLDS]
    best = int(np.argmax(scores))
    return Calibration(
        temperature=temperature,
        offset=offset,
        threshold=float(THRESHOLDS[best]),
        error_before=histogram.calibration_error(),
        error_by_temperature=histogram.calibration_error(alone),
        error_after=histogram.calibration_error(temperature, offset),
        f1_before=histogram.f1(0.5),
        f1_after=scores[best],
    )


def calibrate(
    model: Model,
    data: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    split: str = "val",
    folders: str | None = None,
    protocol: str = "crops",
    overwrite: bool = False,
    on_progress: Progress = ignore,
) -> Calibration:
    """Saves a checkpoint with temperature, offset and best threshold in its header.

    The header also gets the agreement of faster engines and precisions with float32: the share of
    pixels with the same mask. ``auto`` chooses by this agreement.

    Args:
        model: A predictor, a network in memory, or a checkpoint by name or path. The network does
            not change. The precision ``auto`` means float32 here.
        data: One or more data folders; the pairs of all folders are used, each folder once.
        output: Where the calibrated checkpoint goes, a ``.safetensors``.
        split: ``"val"`` or ``"train"``; never ``"test"``.
        folders: The folder names of another layout, see ``evaluate``.
        protocol: How the network runs over the images, see ``Scoring``.
        overwrite: Replace the output if it exists.
        on_progress: Called after every pair of each measurement, with the number of pairs done and
            the total.

    Raises:
        SettingError: If the split is not allowed, or a file has a wrong suffix.
        DataError: If there are no data, or no pixel changed.
        CtmaError: If the checkpoint or the data cannot be read, or the output cannot be written.
    """
    scoring = Scoring(protocol=protocol)
    predictor, roots, folders_of_pairs = open_choice(
        model, data, output, split=split, folders=folders, overwrite=overwrite
    )
    usage = predictor.network.usage
    with predictor.network.used_as(usage.replace(temperature=1.0, offset=0.0, threshold=0.5)):
        looking = _Looking(predictor, folders_of_pairs, scoring, on_progress)
        calibration = fit_calibration(looking.count_logits())
        name = name_data(roots)
        pairs = [*chain(*folders_of_pairs)]
        how = tell_how(predictor, pairs, scoring, split=split, data_name=name)
        predictor.network.usage = calibration.put_into(usage)
        calibration = calibration.with_objects(looking.count_objects())
        predictor.network.usage = calibration.put_into(usage)
        calibration = replace(calibration, agreement=looking.measure_agreement())
        errors = {
            name: value
            for name, value in asdict(calibration).items()
            if name.startswith(("error", "f1"))
        }
        save_model(
            output,
            predictor.network,
            calibration=how.as_dict() | errors,
            agreement=calibration.agreement,
            promise={},  # another threshold keeps no promise
        )
    return calibration


def measure_agreement(
    predictor: Predictor, pairs: list[Pair], scoring: Scoring
) -> dict[str, float]:
    """The share of pixels with the same mask as in float32, by faster engine and precision."""
    return _Looking(predictor, [pairs], scoring, ignore).measure_agreement()


class _Looking:
    """Runs a network on validation pairs, by one engine after the other.

    Args:
        predictor: The network, and how it runs.
        folders: The pairs of each data folder; label values may differ between folders.
        scoring: How to score.
        on_progress: Called after every pair with the number of pairs done and the total.
    """

    def __init__(
        self,
        predictor: Predictor,
        folders: list[list[Pair]],
        scoring: Scoring,
        on_progress: Progress,
    ):
        self.predictor = predictor
        self.folders = folders
        self.scoring = scoring
        self.on_progress = on_progress
        self.ways = [*candidates(predictor.network)]
        measurements = 2 + bool(self.ways) + len(self.ways)
        self.total = sum(map(len, folders)) * measurements
        self.done = 0

    def count_logits(self) -> LogitHistogram:
        """A histogram of the logits of all pixels."""
        histogram = LogitHistogram()
        self._judge(self.predictor, lambda judged: histogram.add(judged.probability, judged.change))
        return histogram

    def count_objects(self) -> ObjectTally:
        """The objects of all masks."""
        tally = ObjectTally()
        self._judge(self.predictor, tally.add)
        return tally

    def measure_agreement(self) -> dict[str, float]:
        """The share of pixels with the same mask as in float32, by engine and precision."""
        if not self.ways:
            return {}
        exact = self._masks("exact", "float32")
        return {
            f"{way.engine} {way.precision}": _share_equal(
                exact, self._masks(way.engine, way.precision)
            )
            for way in self.ways
        }

    def _masks(self, engine: str, precision: str) -> list[Pixels]:
        masks: list[Pixels] = []
        predictor = self.predictor.running_as(engine=engine, precision=precision)
        self._judge(predictor, lambda judged: masks.append(np.packbits(judged.mask)))
        return masks

    def _judge(self, predictor: Predictor, on_pair: Callable[[Judged], None]) -> None:
        def judged(one: Judged) -> None:
            on_pair(one)
            self.done += 1
            self.on_progress(self.done, self.total)

        for pairs in self.folders:
            score_pairs(predictor, pairs, self.scoring, on_pair=judged)


def _share_equal(masks: Sequence[Pixels], others: Sequence[Pixels]) -> float:
    """The share of equal bits of packed masks; padding bits in last bytes count as equal."""
    different = sum(
        int(np.bitwise_count(one ^ other).sum()) for one, other in zip(masks, others, strict=True)
    )
    return 1 - different / (8 * sum(map(len, masks)))

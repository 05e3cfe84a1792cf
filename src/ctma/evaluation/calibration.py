"""Makes a checkpoint's probability mean what it says.

Temperature scaling: C. Guo et al., "On Calibration of Modern Neural Networks", 2017. The
logits are divided by the one temperature that makes the labels of a validation split most
likely.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctma.checkpoints import load_model, save_model
from ctma.data.readers import data_fingerprint, find_pairs
from ctma.devices import find_device
from ctma.errors import SettingError
from ctma.evaluation.evaluate import Judged, evaluate
from ctma.evaluation.metrics import Scores

LIMIT = 16.0
"""Largest logit that is told apart; float32 probabilities know no larger one."""

BINS = 3200
CONFIDENCE_BINS = 15
"""As in the paper."""

TEMPERATURES = np.geomspace(0.2, 5, 801)
THRESHOLDS = np.arange(5, 96) / 100


@dataclass(frozen=True)
class Calibration:
    """What calibrating a checkpoint found.

    Attributes:
        temperature: What logits are divided by.
        threshold: Of all hundredths, the one with the highest F1 after that.
        error_before: Expected calibration error of the probability of change, in [0, 1].
        error_after: The same after temperature scaling.
        f1_before: F1 at 0.5.
        f1_after: F1 at the threshold.
    """

    temperature: float
    threshold: float
    error_before: float
    error_after: float
    f1_before: float
    f1_after: float


class LogitHistogram:
    """Logits of still and of changed pixels, counted in fine bins; any number of pixels fit."""

    def __init__(self) -> None:
        edges = np.linspace(-LIMIT, LIMIT, BINS + 1)
        self.centres = (edges[1:] + edges[:-1]) / 2
        self.counts = np.zeros((2, BINS))

    def add(self, probability: NDArray[np.float32], change: NDArray[np.uint8]) -> None:
        """Counts the pixels of one pair."""
        inside = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
        logits = np.log(inside) - np.log1p(-inside)
        bins = np.clip((logits + LIMIT) * (BINS / (2 * LIMIT)), 0, BINS - 1).astype(int)
        for kind in (0, 1):
            self.counts[kind] += np.bincount(bins[change == kind], minlength=BINS)

    def temperature(self) -> float:
        """The temperature under which the labels are most likely."""
        still, changed = self.counts
        scaled = self.centres / TEMPERATURES[:, None]
        losses = np.logaddexp(0, scaled) @ still + np.logaddexp(0, -scaled) @ changed
        return float(TEMPERATURES[losses.argmin()])

    def calibration_error(self, temperature: float) -> float:
        """Mean distance of probability and share of change, over bins of probability."""
        probability = self._probability(temperature)
        bins = np.minimum((probability * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
        everything = self.counts.sum(axis=0)
        claimed = np.bincount(bins, everything * probability, CONFIDENCE_BINS)
        changed = np.bincount(bins, self.counts[1], CONFIDENCE_BINS)
        return float(np.abs(claimed - changed).sum() / everything.sum())

    def f1(self, threshold: float, temperature: float) -> float:
        """F1 where the probability exceeds a threshold."""
        found = self._probability(temperature) > threshold
        still, changed = self.counts.astype(int)
        return Scores(
            true_positive=int(changed[found].sum()),
            false_positive=int(still[found].sum()),
            false_negative=int(changed[~found].sum()),
            true_negative=int(still[~found].sum()),
        ).f1

    def _probability(self, temperature: float) -> NDArray[np.float64]:
        return 1 / (1 + np.exp(-self.centres / temperature))


def calibrate(histogram: LogitHistogram) -> Calibration:
    """Finds temperature and threshold from the logits of a validation split."""
    temperature = histogram.temperature()
    scores = [histogram.f1(threshold, temperature) for threshold in THRESHOLDS]
    best = int(np.argmax(scores))
    return Calibration(
        temperature=round(temperature, 4),
        threshold=float(THRESHOLDS[best]),
        error_before=histogram.calibration_error(1.0),
        error_after=histogram.calibration_error(temperature),
        f1_before=histogram.f1(0.5, 1.0),
        f1_after=scores[best],
    )


def calibrate_checkpoint(
    checkpoint: str | Path,
    data: Sequence[str | Path],
    output: str | Path,
    *,
    split: str = "val",
    protocol_name: str = "crops",
    device: str = "auto",
    precision: str = "32-true",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Calibration:
    """Puts temperature and best threshold into a checkpoint's header.

    Args:
        checkpoint: A checkpoint of ours.
        data: Data folders; their pairs are taken together.
        output: Where the calibrated checkpoint goes.
        split: ``"val"`` or ``"train"``; never ``"test"``.
        protocol_name: How the network is run.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``.
        precision: ``"32-true"`` or ``"bf16-mixed"``.
        on_progress: Called after every pair with how many are done, and of how many.

    Raises:
        SettingError: If the split is the test split.
        CtmaError: If checkpoint or data cannot be read, or the output not be written.
    """
    if split == "test":
        raise SettingError("--split test: nothing is chosen on the test split; use val")
    network = load_model(checkpoint).to(find_device(device))
    network.temperature = 1.0
    pairs = [pair for folder in data for pair in find_pairs(folder, split)]
    histogram = LogitHistogram()
    done = 0

    def on_pair(judged: Judged) -> None:
        nonlocal done
        done += 1
        histogram.add(judged.probability, judged.change)
        on_progress(done, len(pairs))

    evaluate(network, pairs, protocol_name=protocol_name, precision=precision, on_pair=on_pair)
    found = calibrate(histogram)
    record: dict[str, Any] = {
        "split": split,
        "protocol": protocol_name,
        "arithmetic": precision,
        "data": data_fingerprint(pairs),
        "error_before": found.error_before,
        "error_after": found.error_after,
        "f1_before": found.f1_before,
        "f1_after": found.f1_after,
    }
    header = network.header.model_copy(
        update={
            "temperature": found.temperature,
            "threshold": found.threshold,
            "calibration": record,
        }
    )
    save_model(output, network, header)
    return found

"""Scores of a place, tile by tile, with what chance adds to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctma.data.pairs import Pair
from ctma.evaluation.calibration import THRESHOLDS
from ctma.evaluation.logits import LogitHistogram
from ctma.evaluation.scoring import Judged, Scoring, score_pairs
from ctma.inference.predictor import Predictor
from ctma.models.usage import Usage

CLEARLY = 2.0
"""Standard errors by which another setting must win; tiles of one scene are alike."""

RESAMPLES = 1000
"""Times that tiles are drawn anew for a standard error."""


class Setting(NamedTuple):
    """How logits become a mask.

    Attributes:
        temperature: Divisor of the logits.
        offset: Added to the divided logits.
        threshold: A pixel is change if its probability exceeds the threshold.
    """

    temperature: float
    offset: float
    threshold: float

    @classmethod
    def of(cls, usage: Usage) -> Setting:
        """The setting of a network."""
        return cls(usage.temperature, usage.offset, usage.threshold)


@dataclass(frozen=True)
class Seen:
    """What a network sees on some pairs.

    Attributes:
        histograms: The logits of each pair.
    """

    histograms: list[LogitHistogram]

    def counts(self, setting: Setting) -> NDArray[np.float64]:
        """True positives, false positives and false negatives of each pair, (N, 3)."""
        return np.array([_count(histogram, setting) for histogram in self.histograms])

    def f1(self, setting: Setting) -> float:
        """F1 over all pixels of all pairs, in percent."""
        return float(_f1(self.counts(setting).sum(axis=0)))

    def f1_of_all(self) -> float:
        """F1 of calling every pixel change, in percent."""
        still, changed = self.together().counts.sum(axis=1)
        return float(_f1(np.array([changed, still, 0.0])))

    def together(self) -> LogitHistogram:
        """One histogram of all pairs."""
        whole = LogitHistogram()
        for histogram in self.histograms:
            whole.counts += histogram.counts
        return whole


def look(predictor: Predictor, pairs: Sequence[Pair], distance: float | None) -> Seen:
    """Runs a network on pairs and keeps the logits of each pair.

    Args:
        predictor: The network, and how it runs.
        pairs: Labelled pairs.
        distance: Metres per pixel of the pairs; ``None`` for the network's own.
    """
    histograms: list[LogitHistogram] = []

    def keep(judged: Judged) -> None:
        histograms.append(LogitHistogram())
        histograms[-1].add(judged.probability, judged.change)

    network = predictor.network
    with network.used_as(network.usage.replace(temperature=1.0, offset=0.0)):
        scoring = Scoring(protocol="whole", ground_sample_distance=distance)
        score_pairs(predictor, pairs, scoring, on_pair=keep)
    return Seen(histograms)


def standard_error(
    before: NDArray[np.float64], after: NDArray[np.float64], seed: int = 0
) -> float | None:
    """The standard error of a difference of F1, in percent, as other tiles would give.

    Both arguments are the counts of the same tiles, see ``Seen.counts``. The tiles are drawn anew
    with replacement (B. Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979). A single
    tile has no standard error: ``None``.
    """
    if len(before) < 2:
        return None
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(before), size=(RESAMPLES, len(before)))
    gains = _f1(after[chosen].sum(axis=1)) - _f1(before[chosen].sum(axis=1))
    return float(np.std(gains, ddof=1))


def choose_setting(seen: Seen, former: Setting) -> tuple[Setting, float]:
    """Temperature, offset and threshold for the tiles of a place, and the F1 to expect.

    The former setting stays, unless another one wins by more than ``CLEARLY`` standard errors on
    tiles that did not choose it: each tile in turn is left out.

    Args:
        seen: What a network sees on tiles that it did not learn from.
        former: The setting so far.

    Returns:
        The setting, and F1 in percent of tiles that were left out.
    """
    whole = seen.together()
    if len(seen.histograms) < 2 or not whole.counts.sum(axis=1).all():
        return former, seen.f1(former)
    left_out = np.array([_count(one, _fit(whole.without(one), former)) for one in seen.histograms])
    usual = seen.counts(former)
    gain = _f1(left_out.sum(axis=0)) - _f1(usual.sum(axis=0))
    if gain <= CLEARLY * (standard_error(usual, left_out) or 0.0):
        return former, seen.f1(former)
    return _fit(whole, former), float(_f1(left_out.sum(axis=0)))


def _fit(histogram: LogitHistogram, former: Setting) -> Setting:
    """The best setting for a histogram; the former one where it has one kind of pixel."""
    if not histogram.counts.sum(axis=1).all():
        return former
    temperature, offset = (round(value, 4) for value in histogram.scaling())
    scores = [histogram.f1(threshold, temperature, offset) for threshold in THRESHOLDS]
    return Setting(temperature, offset, float(THRESHOLDS[int(np.argmax(scores))]))


def _count(histogram: LogitHistogram, setting: Setting) -> tuple[float, float, float]:
    mask = histogram.mask(setting.threshold, setting.temperature, setting.offset)
    still, changed = histogram.counts
    return float(changed[mask].sum()), float(still[mask].sum()), float(changed[~mask].sum())


def _f1(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """F1 in percent of counts (…, 3); 0 without change."""
    found, claimed, missed = np.moveaxis(counts, -1, 0)
    return 100 * 2 * found / np.maximum(2 * found + claimed + missed, 1)

"""A histogram of logits, and the temperature and offset that make the labels most likely."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ctma.evaluation.metrics import Scores

LIMIT = 16.0
"""Largest logit of the histogram; float32 probabilities have no larger logits."""

BINS = 3200
CONFIDENCE_BINS = 15
"""Number of bins of the calibration error, as in the paper."""

LARGEST_TEMPERATURE = 5.0
"""Largest temperature; the smallest temperature is its inverse."""

LARGEST_OFFSET = 8.0


class LogitHistogram:
    """A histogram of the logits of unchanged and of changed pixels, for any number of pixels."""

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

    def scaling(self, *, with_offset: bool = True) -> tuple[float, float]:
        """The temperature and offset within the limits that make the labels most likely."""
        logits = torch.from_numpy(self.centres)
        still, changed = torch.from_numpy(self.counts / self.counts.sum())
        used = torch.tensor([1, with_offset], dtype=torch.float64)
        free = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [free],
            max_iter=200,
            tolerance_grad=1e-9,
            tolerance_change=1e-12,
            line_search_fn="strong_wolfe",
        )

        def within_limits() -> tuple[torch.Tensor, torch.Tensor]:
            scale, shift = torch.tanh(free) * used
            return LARGEST_TEMPERATURE**scale, LARGEST_OFFSET * shift

        def loss() -> float:
            optimizer.zero_grad()
            temperature, offset = within_limits()
            scaled = logits / temperature + offset
            unlikely = still @ F.softplus(scaled) + changed @ F.softplus(-scaled)
            unlikely.backward()
            return unlikely.item()

        optimizer.step(loss)
        temperature, offset = within_limits()
        return temperature.item(), offset.item()

    def calibration_error(self, temperature: float = 1.0, offset: float = 0.0) -> float:
        """Mean difference of probability and share of change, over bins of probability."""
        probability = self._probability(temperature, offset)
        bins = np.minimum((probability * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
        everything = self.counts.sum(axis=0)
        claimed = np.bincount(bins, everything * probability, CONFIDENCE_BINS)
        changed = np.bincount(bins, self.counts[1], CONFIDENCE_BINS)
        return float(np.abs(claimed - changed).sum() / everything.sum())

    def f1(self, threshold: float, temperature: float = 1.0, offset: float = 0.0) -> float:
        """F1 of the mask where the probability exceeds a threshold."""
        mask = self.mask(threshold, temperature, offset)
        still, changed = self.counts.astype(int)
        return Scores(
            true_positive=int(changed[mask].sum()),
            false_positive=int(still[mask].sum()),
            false_negative=int(changed[~mask].sum()),
            true_negative=int(still[~mask].sum()),
        ).f1

    def mask(
        self, threshold: float, temperature: float = 1.0, offset: float = 0.0
    ) -> NDArray[np.bool_]:
        """Whether the logits of each bin are change at a threshold."""
        return self._probability(temperature, offset) > threshold

    def without(self, other: LogitHistogram) -> LogitHistogram:
        """A histogram without the pixels of another one, which were counted too."""
        rest = LogitHistogram()
        rest.counts = self.counts - other.counts
        return rest

    def _probability(self, temperature: float, offset: float) -> NDArray[np.float64]:
        return 1 / (1 + np.exp(-self.centres / temperature - offset))

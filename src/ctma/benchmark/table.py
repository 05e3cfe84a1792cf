"""Makes table rows of records: means over seeds, spreads over seeds and scenes, published F1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctma.benchmark import published
from ctma.benchmark.record import COUNTS, ScoreOfMasks

RESAMPLINGS = 2000
SURE = 0.95
"""Share of the resamplings inside the range of a difference."""

SCORES = ("precision", "recall", "f1", "iou")
OBJECTS = ("found", "missed", "false")


@dataclass(frozen=True)
class Spread:
    """The mean and the standard deviation over seeds, ``None`` for a single seed."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of some values."""
        return cls(mean(values), stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class Row:
    """One network of a table.

    Attributes:
        network: The network's name.
        seeds: Number of trainings; 0 for masks that others made.
        scores: Scores of pixels by name, ratios.
        object_scores: Scores of objects by name: ratios, and counts over the split.
        costs: Parameters, GMAC, pairs per second; empty for masks.
        published: Published F1 for these data in percent, if any.
        behind: F1 of the best network minus F1 of this network: the mean, and the range of 95 %
            of the resamplings of scenes and seeds. ``None`` for the best network.
        curve: Recall and precision of the first seed; for masks one point.
    """

    network: str
    seeds: int
    scores: Mapping[str, Spread]
    object_scores: Mapping[str, Spread]
    costs: Mapping[str, float] = field(default_factory=dict)
    published: float | None = None
    behind: tuple[float, float, float] | None = None
    curve: Sequence[tuple[float, float]] = ()

    @property
    def as_good_as_the_best(self) -> bool:
        """Whether the network may be as good as the best: its range behind the best reaches 0."""
        return self.behind is None or self.behind[1] <= 0


def make_rows(
    records: Sequence[ScoreOfMasks], costs: Mapping[str, Mapping[str, Any]], data: str | None
) -> list[Row]:
    """The rows of a table, the best F1 first.

    Args:
        records: Comparable records.
        costs: The measured costs of each network.
        data: The published data set of these data, if any.
    """
    names = dict.fromkeys(record.network for record in records)
    by_name = {name: [record for record in records if record.network == name] for name in names}
    order = sorted(names, key=lambda name: -mean(record.f1 for record in by_name[name]))
    counts = {name: _counts(network_records) for name, network_records in by_name.items()}
    figures = published.F1.get(data or "", {})
    return [
        Row(
            network=name,
            seeds=sum(record.seed is not None for record in by_name[name]),
            scores={key: Spread.of([one.field(key) for one in by_name[name]]) for key in SCORES},
            object_scores={
                key: Spread.of([getattr(one.objects, key) for one in by_name[name]])
                for key in ("f1", *OBJECTS)
            },
            costs=_costs(costs.get(name)),
            published=figures.get(name),
            behind=None if name == order[0] else difference(counts[order[0]], counts[name]),
            curve=_curve(by_name[name][0]),
        )
        for name in order
    ]


def difference(better: NDArray[np.int64], other: NDArray[np.int64]) -> tuple[float, float, float]:
    """The difference of two F1: the mean, and the range of 95 % of the resamplings.

    A paired bootstrap draws scenes with replacement, the same scenes for both networks, and the
    seeds of each network. The range therefore includes the effect of other scenes and seeds. The
    effect of seeds is stretched by the root of n / (n - 1), because drawing n of n
    underestimates it. Resamplings in which no scene has change are left out.

    Args:
        better: Counts of pixels (seeds, scenes, 3): found, claimed wrongly, missed.
        other: Counts of the other network, for the same scenes.
    """
    rng = np.random.default_rng(0)
    scenes = rng.integers(better.shape[1], size=(RESAMPLINGS, better.shape[1]))
    # F1 is undefined if no scene has change.
    changed = better[0][:, [0, 2]].sum(axis=1) > 0
    if not changed.any():
        return 0.0, 0.0, 0.0
    scenes = scenes[changed[scenes].any(axis=1)]
    drawn = [
        _mean_f1(counts, rng.integers(len(counts), size=(len(scenes), len(counts))), scenes)
        for counts in (better, other)
    ]
    # After the stretch, an F1 may lie outside of 0 to 1.
    apart = np.clip(drawn[0] - drawn[1], -1, 1)
    low, high = np.quantile(apart, [(1 - SURE) / 2, (1 + SURE) / 2])
    plain = [_f1(counts.sum(axis=1)).mean() for counts in (better, other)]
    return float(plain[0] - plain[1]), float(low), float(high)


def _mean_f1(
    counts: NDArray[np.int64], seeds: NDArray[np.int64], scenes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """F1 of each resampling, the mean over its seeds."""
    weights = np.stack([np.bincount(draw, minlength=counts.shape[1]) for draw in scenes])
    by_seed = _f1(np.einsum("rs,nsk->rnk", weights, counts))
    plain, drawn = by_seed.mean(axis=1), np.take_along_axis(by_seed, seeds, axis=1).mean(axis=1)
    stretch = np.sqrt(len(counts) / max(len(counts) - 1, 1))
    return plain + stretch * (drawn - plain)


def _f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    found, false, missed = np.moveaxis(counts, -1, 0)
    return 2 * found / np.maximum(2 * found + false + missed, 1)


def scene_of(name: str) -> str:
    """The scene of a pair: pairs in one folder of a split are tiles of one scene."""
    return name.rpartition("/")[0] or name


def _counts(records: Sequence[ScoreOfMasks]) -> NDArray[np.int64]:
    """Counts for each seed and scene, (seeds, scenes, 3)."""
    scenes = sorted({scene_of(pair.name) for pair in records[0].per_pair})
    places = {scene: place for place, scene in enumerate(scenes)}
    counts = np.zeros((len(records), len(scenes), len(COUNTS)), np.int64)
    for seed_counts, record in zip(counts, records, strict=True):
        for pair in record.per_pair:
            seed_counts[places[scene_of(pair.name)]] += [getattr(pair, key) for key in COUNTS]
    return counts


def _curve(record: ScoreOfMasks) -> Sequence[tuple[float, float]]:
    return record.curve or [(record.recall, record.precision)]


def _costs(measured: Mapping[str, Any] | None) -> dict[str, float]:
    if not measured:
        return {}
    pairs = 1 / measured["pair_seconds"]
    return {"parameters": measured["parameters"], "gmac": measured["gmac"], "pairs_a_second": pairs}

"""Areas and accuracies from a stratified sample, with their standard errors and intervals.

The estimators are those of S. Stehman, "Estimating area and map accuracy for stratified random
sampling when the strata are different from the map classes", International Journal of Remote
Sensing 35, 2014. Where the strata are the classes of the map, they are the ones of P. Olofsson et
al., "Good practices for estimating area and assessing accuracy of land change", Remote Sensing of
Environment 148, 2014.

A standard error of 0 where no error was met does not mean that there is none. So the intervals
are built from Wilson's limits (1927) of each stratum, which are joined by the method of variance
estimates recovery (G. Zou, A. Donner, "Construction of confidence limits about effect measures",
Statistics in Medicine 27, 2008).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

Z = 1.96
"""Standard errors on both sides of a normal interval of 95 %, as in Olofsson et al."""

MOST_RARE = 3.5
"""Number of units with a property, below which the property is rare."""

LEAST_OF_EACH = 5
"""Smallest number of units of either class in a stratum where a normal interval is sound."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """An estimated value, with its standard error and its 95 % interval.

    Attributes:
        value: The estimate.
        standard_error: Its standard error.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    value: float
    standard_error: float
    low: float
    high: float

    @property
    def margin(self) -> float:
        """Half the width of the normal interval, as in Olofsson et al."""
        return Z * self.standard_error

    def times(self, factor: float) -> Estimate:
        """The estimate in another unit."""
        values = (self.value, self.standard_error, self.low, self.high)
        return Estimate(*(value * factor for value in values))


@dataclass(frozen=True)
class Answered:
    """The answered units of one stratum.

    Attributes:
        area: Ground area of the stratum.
        units: Number of units of the stratum, answered or not.
        mapped: (n,) class of each unit on the map.
        true: (n,) class of each unit by the reviewers.
        weights: (n,) ground area of each unit, where units differ and were drawn alike; else 1.
        guesses: (n,) probability of change of each unit on the map, if known.
        mean_guess: Mean probability over the ground of the stratum, if known.
    """

    area: float
    units: float
    mapped: NDArray[np.int64]
    true: NDArray[np.int64]
    weights: Values | None = None
    guesses: Values | None = None
    mean_guess: float | None = None

    @cached_property
    def shares(self) -> Values:
        """The weights, adding up to 1."""
        weights = np.ones(len(self.true)) if self.weights is None else self.weights
        return np.asarray(weights / weights.sum(), np.float64)

    @property
    def left(self) -> float:
        """Share of the units that were not drawn: the finite population correction."""
        return max(0.0, 1 - len(self.true) / self.units)

    def mean(self, values: Values) -> float:
        """Mean of a value of the units."""
        return float(self.shares @ values)

    def variance(self, values: Values) -> float:
        """Variance of that mean."""
        if self.left == 0:
            return 0.0
        count = len(values)
        spread = self.shares**2 @ (values - self.mean(values)) ** 2
        return float(self.left * spread * count / (count - 1))

    def limits(self, hits: Values) -> tuple[float, float]:
        """Wilson's limits of the share of units with a property.

        Args:
            hits: (n,) 1 for units with the property, else 0.
        """
        share = self.mean(hits)
        if self.left == 0:
            return share, share
        # Where units differ much in size, a few of them decide.
        most = 1 / float(self.shares @ self.shares)
        if hits.min() == hits.max():  # rounding would make a variance of nothing
            return wilson(float(hits[0]), most)
        return wilson(share, min(share * (1 - share) / self.variance(hits), most))


def wilson(share: float, count: float) -> tuple[float, float]:
    """Wilson's 95 % limits of a share, modified for rare properties.

    Where one to three units have a property, Wilson's limit lies too near. There the limit is the
    one of Poisson's distribution (L. Brown, T. Cai, A. DasGupta, "Interval Estimation for a
    Binomial Proportion", Statistical Science 16, 2001).

    Args:
        share: The observed share.
        count: Number of units, or their effective number.
    """
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    spread = share * (1 - share) / count + Z**2 / (4 * count**2)
    half = Z * math.sqrt(spread) / (1 + Z**2 / count)
    low = min(middle - half, _rare_limit(share, count))
    high = max(middle + half, 1 - _rare_limit(1 - share, count))
    # Rounding must not leave the observed share outside.
    return min(share, max(0.0, low)), max(share, min(1.0, high))


def _rare_limit(share: float, count: float) -> float:
    """The lower limit of a property that very few units have; 1 where more have it."""
    hits = share * count
    if not 0 < hits < MOST_RARE:
        return 1.0
    return float(gammaincinv(hits, 0.05)) / count


class Piece(NamedTuple):
    """What one stratum adds to a share of the ground.

    Attributes:
        part: Share of the ground that the stratum has.
        stratum: Its answered units.
        hits: (n,) 1 for units with some property, else 0.
    """

    part: float
    stratum: Answered
    hits: Values


def add_up(pieces: Sequence[Piece]) -> Estimate:
    """Share of the ground with a property."""
    value = variance = low = high = 0.0
    for part, stratum, hits in pieces:
        share, (least, most) = stratum.mean(hits), stratum.limits(hits)
        value += part * share
        variance += part**2 * stratum.variance(hits)
        low += (part * (share - least)) ** 2
        high += (part * (most - share)) ** 2
    ends = (max(0.0, value - math.sqrt(low)), min(1.0, value + math.sqrt(high)))
    return Estimate(value, math.sqrt(variance), *ends)


@dataclass(frozen=True)
class Survey:
    """A stratified sample with its answers; classes are numbered from 0.

    Attributes:
        strata: The answered units of each stratum.
        classes: Number of classes.
    """

    strata: Sequence[Answered]
    classes: int = 2

    @cached_property
    def total(self) -> float:
        """Ground area of all strata."""
        return sum(stratum.area for stratum in self.strata)

    @cached_property
    def parts(self) -> Values:
        """Share of the ground area that each stratum has."""
        return np.array([stratum.area for stratum in self.strata]) / self.total

    @cached_property
    def nested(self) -> bool:
        """Whether all units of a stratum have one class on the map."""
        return all(len({*stratum.mapped.tolist()}) == 1 for stratum in self.strata)

    def matrix(self) -> Values:
        """Shares of the ground: a row for each class of the map, a column for each true one."""
        found = np.zeros((self.classes, self.classes))
        for part, stratum in zip(self.parts, self.strata, strict=True):
            np.add.at(found, (stratum.mapped, stratum.true), part * stratum.shares)
        return found

    def counts(self) -> NDArray[np.int64]:
        """Numbers of units, in the order of ``matrix``."""
        found = np.zeros((self.classes, self.classes), np.int64)
        for stratum in self.strata:
            np.add.at(found, (stratum.mapped, stratum.true), 1)
        return found

    def area(self, number: int) -> Estimate:
        """Ground area of a true class."""
        return add_up(self._pieces([_is(one.true, number) for one in self.strata])).times(
            self.total
        )

    def overall(self) -> Estimate:
        """Share of the ground that the map has right."""
        return add_up(self._pieces([_is(one.true, one.mapped) for one in self.strata]))

    def users(self, number: int) -> Estimate | None:
        """Share of a class of the map that is this class; ``None`` if the map has no such class."""
        if not self.nested:
            return self._share(number, [_is(one.mapped, number) for one in self.strata])
        pieces = self._pieces([_is(one.true, number) for one in self.strata])
        chosen = [piece for piece in pieces if piece.stratum.mapped[0] == number]
        whole = sum(piece.part for piece in chosen)
        if not chosen:
            return None
        return add_up([piece._replace(part=piece.part / whole) for piece in chosen])

    def producers(self, number: int) -> Estimate | None:
        """Share of a true class that the map calls so; ``None`` if no unit has this class."""
        return self._share(number, [_is(one.true, number) for one in self.strata])

    def assisted_area(self) -> Estimate | None:
        """Area of class 1 with the help of the map's probability: a difference estimator.

        ``None`` where probabilities are not known, or a stratum has fewer than ``LEAST_OF_EACH``
        units of either class: the interval would be too narrow.

        The probability is known everywhere. The sample tells by how much the probability is wrong
        (C. Särndal et al., "Model Assisted Survey Sampling", 1992). A factor on the probability
        makes the variance smallest (A. Angelopoulos et al., "PPI++", 2023).
        """
        guesses = [one.guesses for one in self.strata if one.guesses is not None]
        hits = [_is(one.true, 1) for one in self.strata]
        rarest = min(min(hit.sum(), len(hit) - hit.sum()) for hit in hits)
        if len(guesses) < len(self.strata) or rarest < LEAST_OF_EACH:
            return None
        factor = self._fit(hits, guesses)
        rest = [hit - factor * guess for hit, guess in zip(hits, guesses, strict=True)]
        mean, variance = self._moments(rest)
        known = self.parts @ [one.mean_guess or 0.0 for one in self.strata]
        value, error = mean + factor * float(known), math.sqrt(variance)
        ends = (max(0.0, value - Z * error), min(1.0, value + Z * error))
        return Estimate(value, error, *ends).times(self.total)

    def _fit(self, hits: Sequence[Values], guesses: Sequence[Values]) -> float:
        """The factor on the guesses that leaves the smallest variance, in [0, 1]."""
        sums = [hit + guess for hit, guess in zip(hits, guesses, strict=True)]
        alone, other, both = (self._moments(values)[1] for values in (hits, guesses, sums))
        return float(np.clip((both - alone - other) / 2 / other, 0, 1)) if other else 0.0

    def _moments(self, values: Sequence[Values]) -> tuple[float, float]:
        """Mean over the ground, and its variance."""
        means = [one.mean(value) for one, value in zip(self.strata, values, strict=True)]
        spread = [one.variance(value) for one, value in zip(self.strata, values, strict=True)]
        return float(self.parts @ means), float(self.parts**2 @ spread)

    def _pieces(self, hits: Sequence[Values]) -> list[Piece]:
        return [*map(Piece, self.parts.tolist(), self.strata, hits)]

    def _share(self, number: int, whole: Sequence[Values]) -> Estimate | None:
        """Share of a whole where map and truth agree on a class; ``None`` without any such unit."""
        both = [_is(one.mapped, number) * _is(one.true, number) for one in self.strata]
        rest = [of - part for of, part in zip(whole, both, strict=True)]
        size = self._moments(whole)[0]
        if size == 0:
            return None
        value = self._moments(both)[0] / size
        spread = [part - value * of for part, of in zip(both, whole, strict=True)]
        error = math.sqrt(self._moments(spread)[1]) / size
        pieces = self._possible(both, number, True), self._possible(rest, number, False)
        return Estimate(value, error, *_limits_of_share(*map(add_up, pieces)))

    def _possible(self, hits: Sequence[Values], number: int, inside: bool) -> list[Piece]:
        """Pieces of strata that can hold a property: of one class on the map, or of others.

        Where strata are the classes of the map, what is found and what is missed lie apart, so
        both vary independently.
        """
        pieces = self._pieces(hits)
        if not self.nested:
            return pieces
        return [one for one in pieces if bool(one.stratum.mapped[0] == number) is inside]


def _is(classes: NDArray[np.int64], wanted: int | NDArray[np.int64]) -> Values:
    return np.asarray(classes == wanted, np.float64)


def _limits_of_share(found: Estimate, missed: Estimate) -> tuple[float, float]:
    """Limits of found / (found + missed), by those of the ratio of both."""
    if found.value == 0:
        low, high = _limits_of_ratio(found, missed)
        return 1 - 1 / (1 + low), 1 - 1 / (1 + high)
    low, high = _limits_of_ratio(missed, found)
    return 1 / (1 + high), 1 / (1 + low)


def _limits_of_ratio(upper: Estimate, lower: Estimate) -> tuple[float, float]:
    """Limits of the ratio of two independent estimates (A. Donner, G. Zou, "Closed-form confidence
    intervals for functions of the normal mean and standard deviation", 2012).
    """

    def limit(one: float, other: float, sign: int) -> float:
        product = upper.value * lower.value
        size = other * (2 * lower.value - other)
        inside = product**2 - one * (2 * upper.value - one) * size
        return (product + sign * math.sqrt(max(0.0, inside))) / (size or math.ulp(1.0))

    high = limit(upper.high, lower.low, 1) if lower.low > 0 else math.inf
    return max(0.0, limit(upper.low, lower.high, -1)), high

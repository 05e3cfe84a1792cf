"""Scales stored values to the range [0, 1] that a network sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctma.types import Pixels, Ranges

PERCENTILES = (1.0, 99.0)
"""Percentiles of the usual values that become 0 and 1."""

FENCE = 3.0
"""Usual values lie less than this many interquartile ranges beyond the quartiles (J. W. Tukey,
"Exploratory Data Analysis", 1977, calls values beyond "far out")."""


@dataclass(frozen=True)
class Scaling:
    """Which stored values become 0 and 1, for each band, the same over the whole scene.

    Attributes:
        low: Stored value that becomes 0, for each band.
        high: Stored value that becomes 1, for each band.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def of(cls, ranges: Ranges) -> Scaling:
        """The scaling of a checkpoint's ranges."""
        return cls(tuple(low for low, _ in ranges), tuple(high for _, high in ranges))

    @property
    def ranges(self) -> Ranges:
        """The scaling as a checkpoint keeps it."""
        return tuple(zip(self.low, self.high, strict=True))

    def apply(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """(bands, H, W) stored values to [0, 1], clipped."""
        low = np.array(self.low, np.float32)[:, None, None]
        high = np.array(self.high, np.float32)[:, None, None]
        scaled = np.subtract(values, low, dtype=np.float32)
        scaled /= high - low
        return np.clip(scaled, 0, 1, out=scaled)

    def to_8_bits(self, values: NDArray[Any]) -> Pixels:
        """(bands, H, W) stored values to (H, W, bands), 0 to 255."""
        return np.rint(255 * self.apply(values)).astype(np.uint8).transpose(1, 2, 0)


def unit_scaling(bands: int, full_scale: float) -> Scaling:
    """The scaling from 0 to the stored value that stands for 1."""
    return Scaling((0.0,) * bands, (float(full_scale),) * bands)


def percentile_scaling(values: NDArray[Any]) -> Scaling:
    """The scaling from the 1st to the 99th percentile of each band's usual values.

    Clouds, glint and dead lines do not count: the values at the ends of their type, and, where a
    percentile lies far from the middle half of the values, all values that lie as far.

    Args:
        values: Valid values (bands, N).
    """
    ends = [_find_ends(band) for band in values]
    return Scaling(
        tuple(low for low, _ in ends),
        tuple(high if high > low else low + 1 for low, high in ends),
    )


def _find_ends(values: NDArray[Any]) -> tuple[float, float]:
    """The percentiles of the usual values of a band (N,)."""
    kept = _inside_type(values).astype(np.float64)
    low, first, third, high = np.percentile(kept, (PERCENTILES[0], 25, 75, PERCENTILES[1]))
    floor, ceiling = first - FENCE * (third - first), third + FENCE * (third - first)
    if floor < ceiling and (low < floor or high > ceiling):
        near = kept[(kept >= floor) & (kept <= ceiling)]
        nearest = np.percentile(near, PERCENTILES)
        low = nearest[0] if low < floor else low
        high = nearest[1] if high > ceiling else high
    return float(low), float(high)


def _inside_type(values: NDArray[Any]) -> NDArray[Any]:
    """The values without those at the ends of an integer type, unless these are the most."""
    if not np.issubdtype(values.dtype, np.integer):
        return values
    limits = np.iinfo(values.dtype)
    inside = values[(values > limits.min) & (values < limits.max)]
    return inside if 2 * inside.size > values.size else values

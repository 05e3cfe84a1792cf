"""Scales stored values to the range [0, 1] that a network sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctma.scene.source import Source

PERCENTILES = (1.0, 99.0)


@dataclass(frozen=True)
class Scaling:
    """Which stored values become 0 and 1, for each band, the same over the whole scene.

    Attributes:
        low: Stored value that becomes 0, for each band.
        high: Stored value that becomes 1, for each band.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def apply(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """(bands, H, W) stored values to [0, 1], clipped."""
        low = np.array(self.low, np.float32)[:, None, None]
        high = np.array(self.high, np.float32)[:, None, None]
        scaled = np.subtract(values, low, dtype=np.float32)
        scaled /= high - low
        return np.clip(scaled, 0, 1, out=scaled)


def estimate_scaling(source: Source, full_scale: float) -> Scaling:
    """The scaling of one date, for the whole scene and never per window.

    8-bit values are divided by the checkpoint's full scale. Other values are scaled from the 1st
    to the 99th percentile of each band, taken from a decimated read.

    Args:
        source: One date.
        full_scale: The stored 8-bit value that stands for 1.

    Raises:
        SceneError: If there is no valid pixel.
    """
    values, valid = source.overview
    if values.dtype == np.uint8:
        return unit_scaling(len(values), full_scale)
    return percentile_scaling(values[:, valid])


def unit_scaling(bands: int, full_scale: float) -> Scaling:
    """The scaling from 0 to the stored value that stands for 1."""
    return Scaling((0.0,) * bands, (float(full_scale),) * bands)


def percentile_scaling(values: NDArray[Any]) -> Scaling:
    """The scaling from the 1st to the 99th percentile of each band; valid values (bands, N)."""
    low, high = np.percentile(values.astype(np.float64), PERCENTILES, axis=1)
    high = np.where(high > low, high, low + 1)
    return Scaling(tuple(low.tolist()), tuple(high.tolist()))

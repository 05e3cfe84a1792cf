"""How the values of a scene are scaled, and when the dates' ranges deserve a warning."""

from __future__ import annotations

import numpy as np

from ctma.data.scaling import Scaling, percentile_scaling, unit_scaling
from ctma.models.usage import Usage
from ctma.scene.source import Source

FAR_APART = 4.0
"""Ratio of the dates' ranges above which ctma warns."""

MOST_CLIPPED = 0.5
"""Share of values outside a given range above which ctma warns."""


def find_scaling(source: Source, usage: Usage, date: int) -> Scaling:
    """The scaling of one date, for the whole scene and never per window.

    8-bit values are divided by the checkpoint's full scale. Other values are scaled by the ranges
    that the checkpoint was trained with, else by ``percentile_scaling``, from a decimated read.

    Args:
        source: One date.
        usage: The network's usage settings.
        date: 0 for the date before, 1 for the date after.

    Raises:
        SceneError: If there is no valid pixel.
    """
    values, valid = source.overview
    if values.dtype == np.uint8:
        return unit_scaling(len(values), usage.scaling)
    if usage.ranges is not None:
        return Scaling.of(usage.ranges[date])
    return percentile_scaling(values[:, valid])


def find_disparity(first: Scaling, second: Scaling) -> float:
    """The largest ratio of two dates' ranges in a band; at least 1."""
    widths = [np.subtract(scaling.high, scaling.low) for scaling in (first, second)]
    ratios = widths[0] / widths[1]
    return float(max(ratios.max(), 1 / ratios.min()))

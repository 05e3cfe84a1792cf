"""Shares places among strata."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ctma.errors import SettingError
from ctma.survey.settings import SampleSettings
from ctma.survey.strata import CHANGE, NEAR, REST, Stratum

LIKELY = (0.002, 0.95)
"""Least and largest conjectured share of change."""

MOST_POINTS = 100_000
"""Largest number of places of a sample."""


def conjecture(strata: Sequence[Stratum], settings: SampleSettings) -> NDArray[np.float64]:
    """The conjectured share of change in each stratum.

    Where strata are divided by probability, the mean probability tells more than the zone.
    """
    if settings.levels:
        return np.clip([stratum.mean_guess for stratum in strata], *LIKELY)
    shares = {
        CHANGE: settings.expect_users,
        NEAR: settings.expect_near,
        REST: settings.expect_missed,
    }
    return np.array([shares[stratum.zone] for stratum in strata])


def share_points(strata: Sequence[Stratum], settings: SampleSettings) -> list[int]:
    """The number of places of each stratum.

    Neyman's shares are proportional to the area of a stratum and to the standard deviation of
    change within it (J. Neyman, 1934; W. Cochran, "Sampling Techniques", 1977). No stratum gets
    fewer places than ``least``, or more than it has pixels.

    Raises:
        SettingError: If the wanted standard error needs too many places.
    """
    if settings.standard_error is None:
        return _share(strata, settings, settings.points)
    points = find_points(strata, settings, settings.standard_error)
    if points is None:
        raise SettingError(
            f"`standard_error` {settings.standard_error:g}: needs more than {MOST_POINTS} places"
        )
    return _share(strata, settings, points)


def _share(strata: Sequence[Stratum], settings: SampleSettings, points: int) -> list[int]:
    areas = np.array([stratum.area for stratum in strata])
    shares = conjecture(strata, settings)
    weights = {
        "neyman": areas * np.sqrt(shares * (1 - shares)),
        "proportional": areas,
        "equal": np.ones(len(areas)),
    }[settings.allocation]
    room = np.array([stratum.pixels for stratum in strata], np.float64)
    least = np.minimum(settings.least, room)
    sizes = np.minimum(np.maximum(points * weights / weights.sum(), least), room)
    # What the smallest strata need above their share is taken from the others.
    for _ in strata:
        free = (sizes > least) & (sizes < room)
        surplus = sizes.sum() - points
        if not free.any() or abs(surplus) < 1:
            break
        sizes[free] -= surplus * weights[free] / weights[free].sum()
        sizes = np.minimum(np.maximum(sizes, least), room)
    return [int(size) for size in np.rint(sizes)]


def expect_error(
    strata: Sequence[Stratum], settings: SampleSettings, sizes: Sequence[int]
) -> tuple[float, float]:
    """The expected area of change, and its expected standard error, in square metres."""
    areas = np.array([stratum.area for stratum in strata])
    shares = conjecture(strata, settings)
    units = np.array([stratum.pixels for stratum in strata])
    left = 1 - np.array(sizes) / units
    variance = (areas**2 * shares * (1 - shares) * left / np.maximum(sizes, 1)).sum()
    return float(areas @ shares), math.sqrt(variance)


def find_points(strata: Sequence[Stratum], settings: SampleSettings, wanted: float) -> int | None:
    """The smallest number of places for a standard error of the area of change.

    Args:
        strata: The strata.
        settings: How places are shared among them.
        wanted: The standard error, as a share of the expected area.

    Returns:
        The number, or ``None`` where ``MOST_POINTS`` are too few.
    """
    low, high = len(strata), MOST_POINTS

    def suffices(points: int) -> bool:
        area, error = expect_error(strata, settings, _share(strata, settings, points))
        return error <= wanted * area

    if not suffices(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle + 1, high)
    return low

"""How sure a network is of objects."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

EXTREME = 1e-6
"""Smallest distance of a probability to 0 and 1, so that its logit is finite."""


def scale_objects(means: ArrayLike, temperature: float, offset: float) -> NDArray[np.float64]:
    """The probability that objects are change, from the mean probability of their pixels.

    Args:
        means: The mean probabilities, in [0, 1], of any shape.
        temperature: Divisor of the logit.
        offset: Added to the divided logit.
    """
    values = np.asarray(means, np.float64)
    if (temperature, offset) == (1.0, 0.0):  # no rounding where there is nothing to do
        return values
    inside = np.clip(values, EXTREME, 1 - EXTREME)
    return np.asarray(scipy.special.expit(scipy.special.logit(inside) / temperature + offset))

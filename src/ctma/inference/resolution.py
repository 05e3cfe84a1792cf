"""Brings images to the ground sample distance that a network was trained at."""

from __future__ import annotations

from collections.abc import Sequence

from ctma.errors import SettingError
from ctma.models.usage import Usage
from ctma.settings import check_distance

ALIKE = 1.1
"""Two ground sample distances within this ratio count as equal: pairs are seen as they are."""

STRONGEST_REDUCTION = 0.5
"""The smallest ratio for finer images; limits the pixels to read for one window."""

LARGEST_ENLARGEMENT = 3.2
"""The largest ratio for coarser images; even coarser pixels hold too little to enlarge."""


def find_enlargement(usage: Usage, ground_sample_distance: float | None) -> float:
    """The ratio that brings images to the ground sample distance of a network.

    Args:
        usage: How a network takes images; says the network's distance.
        ground_sample_distance: Metres per pixel of the images, ``None`` if not known.

    Returns:
        A ratio from 0.5 to 3.2. The ratio is 1 where a distance is unknown, the two distances are
        alike, or the pixels are too coarse to enlarge.
    """
    ratio = _ratio(usage, ground_sample_distance)
    # To six digits: 0.55 m against 0.5 m is a ratio of 1.1000000000000001.
    if round(max(ratio, 1 / ratio), 6) <= ALIKE or ratio > LARGEST_ENLARGEMENT:
        return 1.0
    return max(ratio, STRONGEST_REDUCTION)


def enlarged_size(size: Sequence[int], ratio: float, stride: int, least: int) -> list[int]:
    """The size of an image after enlargement or reduction for a network.

    Args:
        size: Height and width of the image.
        ratio: Approximate ratio along a side.
        stride: The new sides are multiples of this number of pixels.
        least: The smallest height and width that the network takes.
    """
    ratio = max(ratio, least / min(size))
    return [stride * round(length * ratio / stride) for length in size]


def is_too_coarse(usage: Usage, ground_sample_distance: float | None) -> bool:
    """Whether pixels are too coarse for the network, and enlarging them is of no use."""
    return _ratio(usage, ground_sample_distance) > LARGEST_ENLARGEMENT


def coarseness_warning(usage: Usage, ground_sample_distance: float | None) -> str | None:
    """A warning where pixels are too coarse for the network, else ``None``."""
    if not is_too_coarse(usage, ground_sample_distance):
        return None
    return (
        f"pixels of {ground_sample_distance:.3g} m, but the network was trained at "
        f"{usage.ground_sample_distance:.3g} m: expect little"
    )


def check_given_distance(usage: Usage, ground_sample_distance: float | None) -> None:
    """Refuses a ground sample distance that is out of range or of no use to the network.

    Raises:
        SettingError: If a distance is given and is not above 0 and finite, or the checkpoint does
            not record its own distance.
    """
    check_distance(ground_sample_distance)
    if ground_sample_distance is not None and usage.ground_sample_distance is None:
        raise SettingError(
            f"`ground_sample_distance` {ground_sample_distance:g}: the checkpoint does not say at "
            "which one it was trained (ctma convert can add it)"
        )


def _ratio(usage: Usage, ground_sample_distance: float | None) -> float:
    """The images' distance divided by the network's distance, 1 where either is unknown."""
    network_distance = usage.ground_sample_distance
    return (
        1.0
        if network_distance is None or ground_sample_distance is None
        else ground_sample_distance / network_distance
    )

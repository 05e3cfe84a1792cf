"""Images of another ground sample distance than a network's, brought to its own."""

from __future__ import annotations

from ctma.errors import SettingError
from ctma.models.base import ChangeNetwork
from ctma.settings import check_distance

ALIKE = 1.3
"""Ground sample distances closer than this ratio are taken for the same."""

STRONGEST_REDUCTION = 0.5
"""Finer images are reduced by no more than this; bounds what is read for one window."""

LARGEST_ENLARGEMENT = 3.2
"""Pixels that are coarser than this many of the network's hold too little to enlarge."""


def find_enlargement(network: ChangeNetwork, ground_sample_distance: float | None) -> float:
    """How much larger a network must see images so that they look as those it was trained on.

    Args:
        network: As from ``load_model``; its checkpoint says the distance it was trained at.
        ground_sample_distance: Metres a pixel of the images, ``None`` if not known.

    Returns:
        A ratio from 0.5 to 3.2; 1 where either distance is unknown, the two are alike, or the
        pixels are too coarse for it to be of use.
    """
    ratio = _ratio(network, ground_sample_distance)
    if 1 / ALIKE < ratio < ALIKE or ratio > LARGEST_ENLARGEMENT:
        return 1.0
    return max(ratio, STRONGEST_REDUCTION)


def coarseness_warning(network: ChangeNetwork, ground_sample_distance: float | None) -> str | None:
    """A line where pixels hold too little of what the network was trained to see."""
    if _ratio(network, ground_sample_distance) <= LARGEST_ENLARGEMENT:
        return None
    return (
        f"pixels of {ground_sample_distance:.3g} m, but the network was trained at "
        f"{network.usage.ground_sample_distance:.3g} m: expect little"
    )


def check_given_distance(network: ChangeNetwork, ground_sample_distance: float | None) -> None:
    """Refuses a ground sample distance that is out of range or of no use to the network.

    Raises:
        SettingError: If one is given and is not above 0, or the checkpoint does not say its own.
    """
    check_distance(ground_sample_distance)
    if ground_sample_distance is not None and network.usage.ground_sample_distance is None:
        raise SettingError(
            f"`ground_sample_distance` {ground_sample_distance:g}: the checkpoint does not say at "
            "which one it was trained (ctma convert can add it)"
        )


def _ratio(network: ChangeNetwork, ground_sample_distance: float | None) -> float:
    """Of the images' distance to the network's, 1 where either is unknown."""
    own = network.usage.ground_sample_distance
    return 1.0 if own is None or ground_sample_distance is None else ground_sample_distance / own

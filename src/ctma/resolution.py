"""Images of another ground sample distance than a network's, brought to its own."""

from __future__ import annotations

import math

from ctma.errors import SettingError
from ctma.models import ChangeNetwork
from ctma.models.views import Resized

ALIKE = 1.25
"""Ground sample distances closer than this ratio are taken for the same."""

STRONGEST_REDUCTION = 0.25
"""Finer images are reduced by no more than this; bounds what is read for one window."""

LARGEST_ENLARGEMENT = 3.0
"""Pixels that are coarser than this many of the network's hold too little to enlarge."""


def at_own_distance(network: ChangeNetwork, ground_sample_distance: float | None) -> ChangeNetwork:
    """The network, enlarging or reducing images to the distance that it was trained at.

    Args:
        network: As from ``load_model``; its checkpoint says the distance.
        ground_sample_distance: Metres a pixel of the images, ``None`` if not known.

    Raises:
        SettingError: If the distance is not above 0.
    """
    ratio = enlargement(network, ground_sample_distance)
    return network if ratio == 1 else Resized(network, ratio)


def enlargement(network: ChangeNetwork, ground_sample_distance: float | None) -> float:
    """How much larger a network must see images so that they look as those it was trained on.

    Returns:
        A ratio; 1 where either distance is unknown, the two are alike, or the pixels are
        too coarse for it to be of use.

    Raises:
        SettingError: If the distance is not above 0.
    """
    if ground_sample_distance is None:
        return 1.0
    if not 0 < ground_sample_distance < math.inf:
        raise SettingError(f"--gsd {ground_sample_distance}: metres a pixel, above 0 and finite")
    own = _own_distance(network)
    if own is None or too_coarse(network, ground_sample_distance):
        return 1.0
    ratio = ground_sample_distance / own
    return 1.0 if 1 / ALIKE < ratio < ALIKE else max(ratio, STRONGEST_REDUCTION)


def too_coarse(network: ChangeNetwork, ground_sample_distance: float) -> bool:
    """Whether pixels hold too little of what the network was trained to see."""
    own = _own_distance(network)
    return own is not None and ground_sample_distance > LARGEST_ENLARGEMENT * own


def _own_distance(network: ChangeNetwork) -> float | None:
    return network.header.ground_sample_distance if network.header else None

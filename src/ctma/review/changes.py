"""A map as its reviewer sees it: places, changes, pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from rasterio.windows import Window
from shapely.geometry.base import BaseGeometry

from ctma.review.degrees import Degrees
from ctma.scene.finished import Pictures, frame
from ctma.types import Pixels

AROUND = 0.3
"""Surroundings of a change on a page, as a share of its longer side."""

LEAST_SIDE, MOST_SIDE = 160, 640
"""Smallest side of a change's window, and largest side of its pictures, in pixels."""


def shown_window(
    bounds: tuple[float, ...], size: tuple[int, int]
) -> tuple[Window, tuple[int, int]]:
    """The window that a page shows around a change, and the height and width of its pictures.

    Args:
        bounds: First column, first row, last column, last row of the change.
        size: Columns and rows of the place.
    """
    return frame(bounds, size, AROUND, LEAST_SIDE, MOST_SIDE)


class MappedChange(NamedTuple):
    """One change of a map.

    Attributes:
        place: Index of its place.
        id: Its number in the place.
        area: Its area, in the map's unit.
        mean: Mean probability of its pixels, in [0, 1]; ``None`` where there is none.
        outline: Its polygon, in columns and rows.
        kind: What it is, where changes are of several kinds.
    """

    place: int
    id: int
    area: float
    mean: float | None
    outline: BaseGeometry
    kind: str = ""


@dataclass(frozen=True)
class Place:
    """A scene, or a pair of images.

    Attributes:
        name: The name of the pair; empty for a scene.
        width: Columns.
        height: Rows.
        degrees: Longitude and latitude of columns and rows; ``None`` without a place on Earth.
        read_whole: Gives both dates, reduced.
        read: Gives both dates in a window, at some height and width.
        read_probability: Gives the probability in steps of 1 / 250, reduced; 255 is no data.
    """

    name: str
    width: int
    height: int
    degrees: Degrees | None
    read_whole: Callable[[], Pictures]
    read: Callable[[Window, tuple[int, int]], Pictures]
    read_probability: Callable[[], Pixels]


@dataclass(frozen=True)
class ReviewedMap:
    """A map to review.

    Attributes:
        title: Names of the dates.
        fingerprint: Tells this map from all others.
        threshold: Probability above which a pixel counts as change.
        unit: Unit of the areas.
        places: The scene, or the pairs of images.
        changes: All changes.
        decide: Whether the reviewer decides on changes, or only looks at them.
        survey: The design of a survey. Its places stand for ``changes``, in the order to look at
            them, and the page hides what the map says. ``None`` for a review.
    """

    title: str
    fingerprint: str
    threshold: float
    unit: str
    places: list[Place]
    changes: list[MappedChange]
    decide: bool = True
    survey: dict[str, Any] | None = None

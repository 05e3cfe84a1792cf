"""Where georeferenced pairs lie on the ground, and which of them share ground."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctma.data.pairs import Pair
from ctma.data.rasters import is_raster

if TYPE_CHECKING:
    from rasterio.crs import CRS
    from rasterio.transform import Affine
    from shapely import Polygon

Points = NDArray[np.float64]
"""(N, 2): x and y."""

ROUNDING = 0.1
"""Pixels by which a gap may be too small, as coordinates are rounded."""

LEAST_SHARE = 0.01
"""Pixels that two images must have in common to share ground; less comes from rounding."""


@dataclass(frozen=True)
class Footprint:
    """The place of an image on the ground.

    Attributes:
        name: The name of the image.
        crs: The coordinate reference system.
        transform: From columns and rows to coordinates.
        width: Columns.
        height: Rows.
    """

    name: str
    crs: CRS
    transform: Affine
    width: int
    height: int

    def outline(self, crs: CRS) -> Polygon:
        """The outline of the image in another CRS."""
        import shapely
        from rasterio.warp import transform

        box = shapely.segmentize(shapely.box(0, 0, self.width, self.height), self.width / 4 + 1)
        placed = shapely.transform(box, lambda points: _place(points, self.transform))
        if crs == self.crs:
            return placed
        return shapely.transform(
            placed, lambda points: np.stack(transform(self.crs, crs, *points.T), axis=-1)
        )


class Neighbours(NamedTuple):
    """Two images that share ground, or lie near each other.

    Attributes:
        first: One image.
        second: The other.
        gap: Pixels of the first image between both; below 0 where they share ground.
    """

    first: Footprint
    second: Footprint
    gap: float


def read_footprints(pairs: Sequence[Pair]) -> list[Footprint]:
    """The footprints of those images before that are georeferenced rasters."""
    found = (_read(pair) for pair in pairs if is_raster(pair.before))
    return [footprint for footprint in found if footprint is not None]


def find_neighbours(
    first: Sequence[Footprint], second: Sequence[Footprint], least: int | None = None
) -> Iterator[Neighbours]:
    """Finds pairs of images, one of each list, with too small a gap between both.

    Args:
        first: Some images.
        second: Other images.
        least: The least gap, in pixels; by default the shorter side of each of the first images.
    """
    import shapely

    if not first or not second:
        return
    crs = first[0].crs
    tree = shapely.STRtree([one.outline(crs) for one in second])
    for one in first:
        outline = one.outline(crs)
        reach = max(outline.bounds[2] - outline.bounds[0], outline.bounds[3] - outline.bounds[1])
        reach *= max(1.0, (least or 0) / min(one.width, one.height))
        for index in tree.query(shapely.buffer(outline, 2 * reach)):
            gap = _gap(one, second[index])
            if gap < (least or min(one.width, one.height)) - ROUNDING:
                yield Neighbours(one, second[index], gap)


def find_shared_ground(splits: Mapping[str, Sequence[Pair]]) -> Iterator[Neighbours]:
    """Finds images of different splits that share ground or lie near each other."""
    footprints = {
        split: [replace(one, name=f"{split}/{one.name}") for one in read_footprints(pairs)]
        for split, pairs in splits.items()
    }
    for one, other in combinations(footprints.values(), 2):
        yield from find_neighbours(one, other)


def _gap(first: Footprint, second: Footprint) -> float:
    """Pixels of the first image between two images; below 0 where they share ground."""
    import shapely

    outline = shapely.transform(
        second.outline(first.crs), lambda points: _place(points, ~first.transform)
    )
    box = shapely.box(0, 0, first.width, first.height)
    if shapely.intersection(box, outline).area > LEAST_SHARE:
        return -1.0
    left, top, right, bottom = outline.bounds
    across = max(left - first.width, -right)
    down = max(top - first.height, -bottom)
    return max(across, down, 0.0)


def _read(pair: Pair) -> Footprint | None:
    """Where the earlier image of a pair lies; ``None`` if it does not say, or cannot be read."""
    import rasterio

    try:
        with rasterio.open(pair.before) as raster:
            if raster.crs is None or raster.transform.is_identity:
                return None
            return Footprint(pair.name, raster.crs, raster.transform, raster.width, raster.height)
    except rasterio.errors.RasterioError:
        return None


def _place(points: Points, transform: Affine) -> Points:
    return np.stack(transform @ (points[:, 0], points[:, 1]), axis=-1)

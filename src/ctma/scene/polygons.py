"""Makes polygons of changes strip by strip, without the whole mask in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy
import shapely
from numpy.typing import NDArray
from pyproj import Geod, Transformer
from rasterio.features import shapes
from shapely import unary_union
from shapely.geometry.base import BaseGeometry

from ctma.scene.grid import Grid, metres_a_unit

Geometries = Sequence[BaseGeometry] | NDArray[np.object_]

SHEET_SIDE = 1024
"""Least rows and columns of a sheet on which changes are outlined."""


@dataclass
class Change:
    """One connected change.

    Attributes:
        parts: The change's polygons, one or more per strip, in columns and rows. These are whole
            numbers, so that parts of two strips meet exactly.
        pixels: Number of pixels.
        total: Sum of the pixels' probabilities.
        highest: Highest probability of a pixel.
    """

    parts: list[BaseGeometry] = field(default_factory=list)
    pixels: int = 0
    total: float = 0.0
    highest: float = 0.0

    def absorb(self, other: Change) -> None:
        """Adds another change that turned out to be part of this change."""
        self.parts += other.parts
        self.pixels += other.pixels
        self.total += other.total
        self.highest = max(self.highest, other.highest)

    @property
    def outline(self) -> BaseGeometry:
        """All parts as one polygon, in columns and rows."""
        return self.parts[0] if len(self.parts) == 1 else unary_union(self.parts)


class Tracer:
    """Traces changes through strips of a mask, from top to bottom.

    Pixels belong together when they share an edge. The tracer yields a change once no further
    strip can touch the change. So only open changes stay in memory.

    Args:
        width: Columns of the mask.
    """

    def __init__(self, width: int):
        self.row = 0
        self.above = np.zeros(width, np.int64)
        self.open: dict[int, Change] = {}

    def add(self, mask: NDArray[np.uint8], probability: NDArray[Any]) -> Iterator[Change]:
        """Takes the next strip; yields the changes that the strip closes.

        Args:
            mask: (rows, W), 1 is change.
            probability: (rows, W), in any unit.
        """
        labels, changes = self._trace(mask, probability)
        merged = self._merge(labels[0], changes)
        for number in self.open.keys() - set(merged.values()):
            yield self.open.pop(number)
        bottom = np.unique(labels[-1][labels[-1] > 0]).tolist()
        self.above = np.zeros_like(self.above)
        still_open: dict[int, Change] = {}
        for label in bottom:
            still_open[merged[label]] = self.open[merged[label]]
            self.above[labels[-1] == label] = merged[label]
        for number in self.open.keys() - still_open.keys():
            yield self.open[number]
        self.open = still_open
        self.row += len(mask)

    def close(self) -> Iterator[Change]:
        """Yields the changes that touch the last row."""
        yield from self.open.values()
        self.open = {}

    def _trace(
        self, mask: NDArray[np.uint8], probability: NDArray[Any]
    ) -> tuple[NDArray[np.int32], dict[int, Change]]:
        labels = np.zeros(mask.shape, np.int32)
        inside = mask.astype(bool)
        count = scipy.ndimage.label(inside, output=labels) if inside.any() else 0
        numbers = np.arange(1, count + 1)
        # Count only the changed pixels: there are few.
        owners, values = labels[inside], probability[inside]
        pixels = np.bincount(owners, minlength=count + 1)[1:]
        totals = np.bincount(owners, weights=values, minlength=count + 1)[1:]
        highest = np.zeros(count + 1, values.dtype)
        np.maximum.at(highest, owners, values)
        changes = {
            int(number): Change([], int(size), float(total), float(high))
            for number, size, total, high in zip(numbers, pixels, totals, highest[1:], strict=True)
        }
        for number, polygon in _outline(labels, self.row):
            changes[number].parts.append(polygon)
        return labels, changes

    def _merge(self, top: NDArray[np.int32], changes: dict[int, Change]) -> dict[int, int]:
        """Joins this strip's changes with the open changes above; returns the new numbers."""
        offset = max(self.open, default=0)
        everything = self.open | {offset + label: change for label, change in changes.items()}
        touching = (self.above > 0) & (top > 0)
        pairs = np.unique(np.stack([self.above[touching], top[touching]]), axis=1)
        leader = {number: number for number in everything}

        def lead(number: int) -> int:
            while leader[number] != number:
                leader[number] = leader[leader[number]]  # a shorter way for the next search
                number = leader[number]
            return number

        for upper, label in pairs.T.tolist():
            first, second = lead(upper), lead(offset + label)
            if first != second:
                leader[second] = first
                everything[first].absorb(everything.pop(second))
        self.open = everything
        return {label: lead(offset + label) for label in changes}


def on_grid(outlines: Geometries, grid: Grid) -> NDArray[np.object_]:
    """Outlines in columns and rows, brought to the CRS of a grid."""
    pixels = np.asarray(outlines, dtype=object)
    placed = shapely.transform(pixels, lambda x, y: grid.transform @ (x, y), interleaved=False)
    return np.asarray(placed, dtype=object)


class GroundArea:
    """Areas on the ellipsoid, in square metres, whatever the CRS.

    In a CRS that is tied to no place on Earth, areas are measured in its plane.

    Args:
        grid: A grid in the CRS of the geometries.
    """

    def __init__(self, grid: Grid):
        self.unit = metres_a_unit(grid.crs)
        self.ellipsoid = Geod(ellps="WGS84")
        if self.unit is None:
            self.to_degrees = Transformer.from_crs(grid.crs.to_wkt(), "EPSG:4326", always_xy=True)

    def __call__(self, geometries: Geometries) -> list[float]:
        """The area of each geometry, square metres."""
        outlines = np.asarray(geometries, dtype=object)
        if self.unit is not None:
            measured: list[float] = (shapely.area(outlines) * self.unit**2).tolist()
            return measured
        degrees = shapely.transform(outlines, self.to_degrees.transform, interleaved=False)
        # Where outlines also touch, their common part holds lines and points as well.
        parts, owners = shapely.get_parts(degrees, return_index=True)
        parts, origins = shapely.get_parts(parts, return_index=True)
        areas = [0.0] * len(outlines)
        for part, owner in zip(parts, owners[origins].tolist(), strict=True):
            if shapely.get_dimensions(part) == 2:
                shell, *holes = shapely.get_rings(part)
                areas[owner] += self._ring(shell) - sum(map(self._ring, holes))
        return areas

    def _ring(self, ring: BaseGeometry) -> float:
        longitudes, latitudes = shapely.get_coordinates(ring).T
        return abs(float(self.ellipsoid.polygon_area_perimeter(longitudes, latitudes)[0]))


def _outline(labels: NDArray[np.int32], top: int) -> Iterator[tuple[int, BaseGeometry]]:
    """The outline of each change of a strip, by the number of the change.

    Args:
        labels: (rows, W), the number of the change that each pixel belongs to, from 1.
        top: The strip's first row in the scene.
    """
    places = [*enumerate(scipy.ndimage.find_objects(labels), start=1)]
    # The highest first, so that neighbours on a sheet are of a height.
    places.sort(key=lambda one: one[1][0].start - one[1][0].stop)
    while places:
        sheet, moves, places = _move_together(labels, places)
        for geometry, value in shapes(sheet, mask=sheet > 0):
            number = int(value)
            yield number, _polygon(geometry["coordinates"], moves[number] + (0, top))


def _move_together(
    labels: NDArray[np.int32], places: list[tuple[int, tuple[slice, slice]]]
) -> tuple[NDArray[np.int32], dict[int, NDArray[np.int64]], list[tuple[int, tuple[slice, slice]]]]:
    """Puts changes side by side on a sheet, without the unchanged ground between them.

    To outline a sheet takes less time than to outline each change alone, or the whole strip.

    Returns:
        The sheet; for each change on the sheet, the columns and rows back to its place; and the
        changes that are left for the next sheet.
    """
    width = max(SHEET_SIDE, max(columns.stop - columns.start for _, (_, columns) in places))
    sheet = np.zeros((max(SHEET_SIDE, len(labels)), width), np.int32)
    moves: dict[int, NDArray[np.int64]] = {}
    row = column = below = 0
    for done, (number, place) in enumerate(places):
        region = labels[place]
        high, wide = region.shape
        if column + wide > width:
            row, column = below, 0
        if row + high > len(sheet):
            return sheet[:below], moves, places[done:]
        sheet[row : row + high, column : column + wide][region == number] = number
        moves[number] = np.array([place[1].start - column, place[0].start - row])
        below, column = max(below, row + high), column + wide
    return sheet[:below], moves, []


def _polygon(
    rings: Sequence[Sequence[tuple[float, float]]], move: NDArray[np.int64]
) -> BaseGeometry:
    """A polygon from its outer ring and its holes; faster than shapely's own constructor."""
    shell, *holes = (shapely.linearrings(np.array(ring) + move) for ring in rings)
    return shapely.polygons(shell, holes or None)

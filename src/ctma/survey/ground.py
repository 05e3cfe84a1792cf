"""The ground area of pixels, whatever the CRS."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window
from shapely import box
from shapely.affinity import affine_transform

from ctma.errors import DataError
from ctma.scene.grid import Grid
from ctma.scene.polygons import GroundArea

NODES = (97, 25)
"""Rows and columns at which areas are measured; between them they are interpolated. Areas differ
more from row to row, as in degrees."""


class PixelAreas:
    """Ground areas of the pixels of a grid, in square metres.

    Args:
        grid: The grid.

    Raises:
        DataError: If the grid has pixels that lie nowhere.
    """

    def __init__(self, grid: Grid):
        measure = GroundArea(grid)
        to_ground = grid.transform.to_shapely()
        self.places = [
            np.linspace(0, length, min(length + 1, nodes))
            for length, nodes in zip((grid.height, grid.width), NODES, strict=True)
        ]
        # Squares of many pixels: the area of a single one would be lost in rounding.
        half = max(1, min(grid.height, grid.width) // 64) / 2
        self.nodes = np.array([
            [_measure(measure, to_ground, row, column, half, grid) for column in self.places[1]]
            for row in self.places[0]
        ])  # fmt: skip
        if not (np.isfinite(self.nodes).all() and (self.nodes > 0).all()):
            raise DataError("the ground area of the map's pixels is not known in its CRS")

    @property
    def largest(self) -> float:
        """The area of the largest pixel."""
        return float(self.nodes.max())

    def at(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Areas of single pixels; (n,)."""
        down, across = self._weights(0, rows), self._weights(1, columns)
        return np.asarray(np.einsum("nr,rc,nc->n", down, self.nodes, across))

    def over(self, window: Window) -> NDArray[np.float32]:
        """Areas of the pixels of a window; (H, W)."""
        down = self._weights(0, np.arange(window.row_off, window.row_off + window.height))
        across = self._weights(1, np.arange(window.col_off, window.col_off + window.width))
        return np.asarray(down @ self.nodes @ across.T, np.float32)

    def _weights(self, axis: int, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """For each pixel, the weight of each node along an axis; (n, nodes)."""
        nodes = self.places[axis]
        at = (places + 0.5) / nodes[-1] * (len(nodes) - 1)
        return np.asarray(np.maximum(0, 1 - np.abs(at[:, None] - np.arange(len(nodes)))))


def _measure(
    measure: GroundArea, to_ground: list[float], row: float, column: float, half: float, grid: Grid
) -> float:
    """Area of a pixel near a corner of pixels; the square lies inside the grid."""
    top = min(max(row - half, 0), grid.height - 2 * half)
    left = min(max(column - half, 0), grid.width - 2 * half)
    square = box(left, top, left + 2 * half, top + 2 * half)
    return measure([affine_transform(square, to_ground)])[0] / (2 * half) ** 2

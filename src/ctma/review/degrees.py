"""Longitudes and latitudes of a grid as polynomials, for a page that has no map projections."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.polynomial.chebyshev import chebvander2d
from numpy.typing import NDArray
from pyproj import Transformer

from ctma.scene.grid import Grid, metres_a_unit, wrap_longitudes

SIZES = (3, 5, 8, 12, 18)
"""Numbers of Chebyshev polynomials a side that are tried."""

PRECISION = 0.02
"""Largest error of a position, in pixels."""


class Degrees(NamedTuple):
    """Longitude and latitude as sums of products of Chebyshev polynomials.

    The polynomials run over columns and rows, each scaled from -1 to 1.

    Attributes:
        size: Number of polynomials a side.
        longitude: Coefficients, columns first; longitudes may pass 180 degrees.
        latitude: Coefficients, likewise.
    """

    size: int
    longitude: list[float]
    latitude: list[float]


def fit_degrees(grid: Grid) -> Degrees | None:
    """Fits longitude and latitude of a grid; ``None`` for a CRS that is tied to no place on Earth.

    The error is at most ``PRECISION`` where the projection is smooth over the grid.
    """
    if metres_a_unit(grid.crs) is not None:
        return None
    rng = np.random.default_rng(0)
    control = rng.uniform(-1, 1, (2, 500))
    wanted = _locate(grid, control)
    pixel = np.abs(_locate(grid, control + 2 / np.array([[grid.width], [grid.height]])) - wanted)
    allowed = PRECISION * pixel.max()
    for size in SIZES:
        fitted = _fit(grid, size)
        terms = chebvander2d(control[0], control[1], (size - 1, size - 1))
        if np.abs(terms @ fitted - wanted.T).max() < allowed:
            break
    return Degrees(size, fitted[:, 0].tolist(), fitted[:, 1].tolist())


def _fit(grid: Grid, size: int) -> NDArray[Any]:
    nodes = np.cos(np.pi * (np.arange(2 * size) + 0.5) / (2 * size))
    points = np.stack([axis.ravel() for axis in np.meshgrid(nodes, nodes)])
    terms = chebvander2d(points[0], points[1], (size - 1, size - 1))
    return np.linalg.lstsq(terms, _locate(grid, points).T)[0]


def _locate(grid: Grid, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Longitudes and latitudes (2, N) of scaled columns and rows; longitudes without a jump."""
    columns, rows = (points + 1) / 2 * np.array([[grid.width], [grid.height]])
    to_degrees = Transformer.from_crs(grid.crs.to_wkt(), "EPSG:4326", always_xy=True)
    middle = grid.transform @ (grid.width / 2, grid.height / 2)
    first, _ = to_degrees.transform(*middle)
    longitudes, latitudes = to_degrees.transform(*(grid.transform @ (columns, rows)))
    return np.stack([wrap_longitudes(np.asarray(longitudes), first), latitudes])

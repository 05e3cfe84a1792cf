"""One grid for two rasters."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from pyproj import Geod, Transformer
from pyproj.exceptions import ProjError
from rasterio import DatasetReader
from rasterio.crs import CRS
from rasterio.transform import Affine, array_bounds, from_origin
from rasterio.warp import transform, transform_bounds
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from ctma.errors import SceneError, UnknownNameError

Bounds = tuple[float, float, float, float]
GRIDS = ("before", "after", "finest")
"""Dates whose pixels a common grid may keep; ``finest`` has the smaller pixels on the ground."""

SNAP = 1e-6
"""Largest distance, in pixels, at which a border still counts as on a pixel's edge."""


@dataclass(frozen=True)
class Grid:
    """A north-up pixel grid on the ground.

    Attributes:
        crs: Its coordinate reference system.
        transform: From (column, row) to coordinates.
        width: Columns.
        height: Rows.
    """

    crs: CRS
    transform: Affine
    width: int
    height: int

    @property
    def bounds(self) -> Bounds:
        """West, south, east, north."""
        return array_bounds(self.height, self.width, self.transform)

    @property
    def middle_longitude(self) -> float:
        """Between west and east, in units of the CRS."""
        west, _, east, _ = self.bounds
        return (west + east) / 2

    def turned(self, degrees: float) -> Grid:
        """The same grid with its longitudes lowered by ``degrees``; unchanged at 0."""
        transform = Affine.translation(-degrees, 0) @ self.transform if degrees else self.transform
        return replace(self, transform=transform)

    def moved(self, columns: float, rows: float) -> Grid:
        """The same grid, moved to the right and downwards by pixels."""
        return replace(self, transform=self.transform @ Affine.translation(columns, rows))


@dataclass(frozen=True)
class Overlap:
    """The common grid of two rasters, and the shares of the rasters outside the grid.

    Attributes:
        grid: The grid over the intersection.
        outside_before: Share of the raster before that lies outside the grid.
        outside_after: Share of the raster after that lies outside the grid.
        turn: Degrees to add to the longitudes of the raster after to get the grid's longitudes.
    """

    grid: Grid
    outside_before: float
    outside_after: float
    turn: float = 0.0


def common_grid(before: DatasetReader, after: DatasetReader, choice: str = "before") -> Overlap:
    """The grid of one raster, cut to the intersection of both.

    Args:
        before: The raster before.
        after: The raster after.
        choice: The date whose pixels the grid keeps: ``before``, ``after``, or ``finest``, the
            date with the smaller pixels on the ground.

    Raises:
        SceneError: If a raster has no CRS, or the two do not overlap.
        UnknownNameError: If there is no such choice.
    """
    for raster in (before, after):
        _check_place(raster)
    _check_local(before, after)
    if choice not in GRIDS:
        raise UnknownNameError("grid", choice, GRIDS)
    grids = {"before": own_grid(before), "after": own_grid(after)}
    turn = _find_turn(*grids.values())
    grids["after"] = grids["after"].turned(-turn)
    if choice == "finest":
        choice = min(grids, key=lambda date: _pixel_area(grids[date], before.crs))
    reference = grids[choice]
    extents = [_bounds_in(grid, reference.crs) for grid in grids.values()]
    if reference.crs.is_geographic:
        extents = _nearest_longitudes(*extents)
    grid = _cut(reference, _intersection(*extents))
    if grid is None:
        raise SceneError(f"{before.name} and {after.name} do not overlap")
    outside_after = _share_outside(after, grid.turned(turn))
    return Overlap(grid, _share_outside(before, grid), outside_after, turn)


def _find_turn(before: Grid, after: Grid) -> float:
    """Degrees to add to the longitudes after to count them as the longitudes before."""
    if not (before.crs.is_geographic and after.crs.is_geographic):
        return 0.0
    _, turned = _nearest_longitudes(before.bounds, after.bounds)
    return turned[0] - after.bounds[0]


def _nearest_longitudes(first: Bounds, second: Bounds) -> list[Bounds]:
    """Two extents in degrees; the second, turned by 0 or ±360, overlaps the first the most."""

    def turned(degrees: float) -> Bounds:
        west, south, east, north = second
        return west + degrees, south, east + degrees, north

    def meeting(bounds: Bounds) -> float:
        west, _, east, _ = _intersection(first, bounds)
        return east - west

    return [first, max((turned(degrees) for degrees in (0.0, 360.0, -360.0)), key=meeting)]


def _check_place(raster: DatasetReader) -> None:
    points, _ = raster.gcps
    if points and raster.transform.is_identity:
        raise SceneError(
            f"{raster.name}: is placed by ground control points alone; warp it first: "
            "gdalwarp -r bilinear IN OUT"
        )
    if raster.crs is None:
        raise SceneError(f"{raster.name}: has no CRS, so its place is not known")
    if raster.transform.is_identity:
        raise SceneError(
            f"{raster.name}: has a CRS but no transform, so its place is not known; give it one "
            "with gdal_edit -a_ullr WEST NORTH EAST SOUTH, or warp it with gdalwarp"
        )


def _check_local(before: DatasetReader, after: DatasetReader) -> None:
    """Refuses two local CRS of different names, which PROJ takes for one."""
    systems = [pyproj.CRS.from_wkt(raster.crs.to_wkt()) for raster in (before, after)]
    local = all(system.type_name == "Engineering CRS" for system in systems)
    if local and systems[0].name != systems[1].name:
        raise SceneError(
            f"{before.name} and {after.name}: have the CRS {systems[0].name!r} and "
            f"{systems[1].name!r}, and no way leads from one local CRS to another"
        )


def measure_distance(grid: Grid) -> float | None:
    """Side of the middle pixel in metres, ``None`` where the pixel is nowhere on Earth.

    In a CRS that is tied to no place on Earth, these are metres of the CRS's plane.
    """
    if (unit := metres_a_unit(grid.crs)) is not None:
        return math.sqrt(abs(grid.transform.determinant)) * unit
    corner, right, below = _middle_pixel(grid, CRS.from_epsg(4326))
    ellipsoid = Geod(ellps="WGS84")
    across, down = (ellipsoid.inv(*corner, *other)[2] for other in (right, below))
    distance = math.sqrt(across * down)
    return distance if 0 < distance < math.inf else None


def metres_a_unit(crs: CRS) -> float | None:
    """Metres per unit of a CRS that is tied to no place on Earth; ``None`` for any other CRS.

    Such a CRS is the local one of a building site, or that of another celestial body. Degrees
    count as on the body's equator.
    """
    system = pyproj.CRS.from_wkt(crs.to_wkt())
    try:
        Transformer.from_crs(system, "EPSG:4326")
    except ProjError:
        radius = (
            system.ellipsoid.semi_major_metre if system.is_geographic and system.ellipsoid else 1.0
        )
        return float(system.axis_info[0].unit_conversion_factor * radius)
    return None


def wrap_longitudes(longitudes: NDArray[np.float64], middle: float) -> NDArray[np.float64]:
    """The same longitudes in degrees, counted so that all lie within 180 of a middle."""
    return middle + (longitudes - middle + 180) % 360 - 180


def turn_to_grid(shapes: Iterable[BaseGeometry], grid: Grid) -> list[BaseGeometry]:
    """Geometries in the CRS of a grid, with longitudes that are counted as those of the grid.

    Files count longitudes from -180 to 180, and cut what crosses the 180th meridian. Grids there
    count on. The parts of a cut geometry come together again.
    """
    shapes = [*shapes]
    if not grid.crs.is_geographic:
        return shapes
    west, _, east, _ = shapely.bounds(np.array(shapes, object)).reshape(-1, 4).T
    middle = grid.middle_longitude
    far = (west < middle - 180) | (east > middle + 180)
    return [
        _turn(shape, middle) if is_far else shape for shape, is_far in zip(shapes, far, strict=True)
    ]


def _turn(shape: BaseGeometry, middle: float) -> BaseGeometry:
    turned = []
    for part in shapely.get_parts(shape):
        west, _, east, _ = part.bounds
        turned.append(translate(part, 360 * round((middle - (west + east) / 2) / 360)))
    return turned[0] if len(turned) == 1 else shapely.union_all(turned)


def crs_around(grid: Grid) -> CRS:
    """The CRS of a grid, in degrees with the longitudes that the grid has.

    Where a grid lies across the 180th meridian, or counts to 360, GDAL would look for its pixels
    at other longitudes.
    """
    west, _, east, _ = grid.bounds
    if not grid.crs.is_geographic or (west >= -180 and east <= 180):
        return grid.crs
    # GDAL looks up a CRS with a code, and would lose the extension.
    text = re.sub(r',AUTHORITY\["[^"]*","[^"]*"\]\]$', "]", grid.crs.to_wkt(version="WKT1_GDAL"))
    # GDAL keeps transformations by the rest of the text, which therefore tells the middle too.
    text = text.replace('GEOGCS["', f'GEOGCS["Around {grid.middle_longitude}: ', 1)
    return CRS.from_wkt(f'{text[:-1]},EXTENSION["CENTER_LONG","{grid.middle_longitude}"]]')


def own_grid(raster: DatasetReader) -> Grid:
    """The north-up grid of a raster: its own pixels where these run north up, else as many."""
    transform = raster.transform
    if transform.b == transform.d == 0 and transform.a > 0 > transform.e:
        return Grid(raster.crs, transform, raster.width, raster.height)
    if transform.b == transform.d == 0:  # flipped: the same pixels, counted from the north-west
        across, down = abs(transform.a), abs(transform.e)
    else:  # rotated or sheared: square pixels of the same area
        across = down = math.sqrt(abs(transform.determinant))
    corners = [transform @ (x, y) for x in (0, raster.width) for y in (0, raster.height)]
    (west, *_, east), (south, *_, north) = (sorted(side) for side in zip(*corners, strict=True))
    width, height = (
        math.ceil(length / size - SNAP)
        for length, size in ((east - west, across), (north - south, down))
    )
    return Grid(raster.crs, from_origin(west, north, across, down), width, height)


def _bounds_in(grid: Grid, crs: CRS) -> Bounds:
    if grid.crs == crs:
        return grid.bounds
    west, south, east, north = transform_bounds(grid.crs, crs, *grid.bounds, densify_pts=21)
    # Bounds in degrees across the 180th meridian end at a longitude west of their beginning.
    return west, south, east + 360 if crs.is_geographic and east < west else east, north


def _pixel_area(grid: Grid, crs: CRS) -> float:
    """Area of the middle pixel in a CRS, from its corners, not from its bounding box."""
    (x, y), right, below = _middle_pixel(grid, crs)
    return abs((right[0] - x) * (below[1] - y) - (below[0] - x) * (right[1] - y))


def _middle_pixel(grid: Grid, crs: CRS) -> list[tuple[float, float]]:
    """The middle pixel's upper left, upper right and lower left corner in a CRS, as (x, y)."""
    column, row = grid.width / 2, grid.height / 2
    corners = [grid.transform @ (column + x, row + y) for x, y in ((0, 0), (1, 0), (0, 1))]
    if grid.crs == crs:
        return corners
    xs, ys = transform(grid.crs, crs, *zip(*corners, strict=True))
    if crs.is_geographic:
        xs = wrap_longitudes(np.array(xs), xs[0])
    return list(zip(xs, ys, strict=True))


def _share_outside(raster: DatasetReader, grid: Grid) -> float:
    """Share of a raster's pixels that lie outside a grid."""

    def to_pixels(points: NDArray[np.float64]) -> NDArray[np.float64]:
        same = grid.crs == raster.crs
        x, y = points.T if same else np.array(transform(grid.crs, raster.crs, *points.T))
        if raster.crs.is_geographic and not same:
            x = wrap_longitudes(x, own_grid(raster).middle_longitude)
        return np.stack(~raster.transform @ (x, y), axis=-1)

    outline = shapely.box(*grid.bounds)
    # Straight lines of one projection are curves in another.
    outline = shapely.segmentize(outline, outline.length / 100)
    pixels = shapely.transform(outline, to_pixels)
    inside = shapely.clip_by_rect(pixels, 0, 0, raster.width, raster.height).area
    return max(0.0, 1 - inside / (raster.width * raster.height))


def _intersection(first: Bounds, second: Bounds) -> Bounds:
    return (
        max(first[0], second[0]),
        max(first[1], second[1]),
        min(first[2], second[2]),
        min(first[3], second[3]),
    )


def _cut(grid: Grid, box: Bounds) -> Grid | None:
    """The pixels of a grid that lie wholly in a box, ``None`` where there are none."""
    west, south, east, north = box
    first_column, first_row = ~grid.transform @ (west, north)
    last_column, last_row = ~grid.transform @ (east, south)
    left, top = math.ceil(first_column - SNAP), math.ceil(first_row - SNAP)
    width = min(math.floor(last_column + SNAP), grid.width) - left
    height = min(math.floor(last_row + SNAP), grid.height) - top
    if width <= 0 or height <= 0:
        return None
    transform = grid.transform @ Affine.translation(left, top)
    return Grid(grid.crs, transform, width, height)

"""Draws pictures of a scene's result: the whole of it, and its largest changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from pyproj import Geod, Transformer
from rasterio.crs import CRS
from rasterio.enums import Resampling
from shapely import from_wkb
from shapely.affinity import affine_transform
from shapely.geometry.base import BaseGeometry

from ctma.figures.scenes import Closeup, Overview, area_text, save_closeups, save_scene
from ctma.scene.finished import DATES, DatePictures, FinishedMap, frame, read_reduced
from ctma.scene.grid import Grid, measure_distance, metres_a_unit, turn_to_grid
from ctma.scene.layer import plain_path
from ctma.scene.names import LARGEST, PICTURE
from ctma.scene.rasters import raster_settings
from ctma.scene.strips import NO_DATA, STEPS
from ctma.types import Pixels

SIDE = 1000
"""Longest side of an overview, pixels."""

MOST_OUTLINES = 20_000
"""Largest number of drawn polygons, the first ones of the layer."""

CLOSEUP_SIDE = 256
"""Longest side of a change's picture, pixels."""

AROUND, LEAST_SIDE = 0.3, 64
"""What a change's picture shows: a share of its longer side around it, and pixels in all."""


def draw_overview(
    finished: FinishedMap, probability: Path, pictures: tuple[Pixels, Pixels]
) -> None:
    """Draws the result of a run over a scene into the map's folder.

    Args:
        finished: The finished map; its rasters may still be missing.
        probability: A raster of the probability as stored.
        pictures: Both dates as the network saw them, at any size.

    Raises:
        OutputError: If the picture cannot be written.
    """
    grid = finished.grid
    factor = max(1.0, max(grid.width, grid.height) / SIDE)
    stored = read_reduced(probability, SIDE, Resampling.average)
    scaled = np.where(stored == NO_DATA, np.nan, stored * (1 / STEPS))
    before, after = (_reduce(picture, stored.shape) for picture in pictures)
    polygons = _read_polygons(finished.polygons, grid.crs)
    outlines = [
        _to_pixels(part.exterior, grid) / factor
        for polygon in turn_to_grid(polygons, grid)
        for part in shapely.get_parts(polygon)
    ]
    distance = measure_distance(grid)
    overview = Overview(
        before,
        after,
        scaled.astype(np.float32),
        outlines,
        finished.summary["changes"],
        finished.summary["changed_area_m2"],
        None if distance is None else distance * factor,
        find_north(grid),
    )
    save_scene(finished.folder / PICTURE, overview, _title(finished))


def draw_largest(finished: FinishedMap, count: int) -> Path | None:
    """Draws the largest changes of a map as a sheet; ``None`` where there is no change.

    Raises:
        OutputError: If the sheet cannot be written.
        DataError: If the changes cannot be read.
    """
    changes = finished.read_changes().nlargest(count, "area_m2")
    if changes.empty:
        return None
    with raster_settings(), DatePictures(finished) as pictures:
        closeups = [
            _draw_closeup(change, finished.grid, pictures) for change in changes.itertuples()
        ]
    path = finished.folder / LARGEST
    save_closeups(path, closeups, f"the largest changes, {_title(finished)}")
    return path


def find_north(grid: Grid) -> float | None:
    """Direction of north at the middle of a grid, in degrees clockwise from the top.

    ``None`` in a CRS that is tied to no place on Earth.
    """
    if metres_a_unit(grid.crs) is not None:
        return None
    to_degrees = Transformer.from_crs(grid.crs.to_wkt(), "EPSG:4326", always_xy=True)
    middle, above = (
        to_degrees.transform(*(grid.transform @ (grid.width / 2, grid.height / 2 - up)))
        for up in (0, 1)
    )
    azimuth, _, _ = Geod(ellps="WGS84").inv(*middle, *above)
    return -float(azimuth)


def _draw_closeup(change: Any, grid: Grid, pictures: DatePictures) -> Closeup:
    outline = affine_transform(change.geometry, (~grid.transform).to_shapely())
    window, shape = frame(
        outline.bounds, (grid.width, grid.height), AROUND, LEAST_SIDE, CLOSEUP_SIDE
    )
    before, after = (
        np.zeros((*shape, 3), np.uint8) if picture is None else picture
        for picture in pictures.read(window, shape)
    )
    corner = np.array([window.col_off, window.row_off])
    step = window.width / shape[1]
    rings = [
        (shapely.get_coordinates(ring) - corner) / step - 0.5 for ring in shapely.get_rings(outline)
    ]
    caption = f"{change.id}: {area_text(change.area_m2)}, {change.mean_probability:.2f}"
    return Closeup(caption, before, after, rings)


def _title(finished: FinishedMap) -> str:
    names = " and ".join(Path(finished.summary[date]["path"]).name for date in DATES)
    unlike = finished.summary.get("unlike_share")
    return names if unlike is None else f"{names}; {unlike:.0%} unlike the training images"


def _to_pixels(ring: BaseGeometry, grid: Grid) -> NDArray[np.float64]:
    x, y = shapely.get_coordinates(ring).T
    return np.stack(~grid.transform @ (x, y), axis=1)


def _read_polygons(path: Path, crs: CRS) -> Any:
    """The polygons in the CRS of the scene, whatever the file's CRS."""
    if path.suffix == ".parquet":
        import geopandas

        return geopandas.read_parquet(path).geometry[:MOST_OUTLINES]
    with plain_path(path) as plain:
        metadata, _, stored, _ = pyogrio.raw.read(
            plain, layer=0, columns=[], max_features=MOST_OUTLINES
        )
    polygons = from_wkb(stored)
    if CRS.from_user_input(metadata["crs"]) == crs:
        return polygons
    to_scene = Transformer.from_crs(metadata["crs"], crs.to_wkt(), always_xy=True).transform
    return shapely.transform(polygons, to_scene, interleaved=False)


def _reduce(picture: Pixels, shape: tuple[int, ...]) -> Pixels:
    rows, columns = (
        np.arange(side) * full // side for side, full in zip(shape, picture.shape[:2], strict=True)
    )
    return picture[rows[:, None], columns]

"""Draws an overview picture of a scene's result."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import rasterio
import shapely
from pyproj import Transformer
from rasterio.crs import CRS
from shapely import from_wkb

from ctma.figures.scenes import Overview, save_scene
from ctma.scene.layer import plain_path
from ctma.scene.rasters import raster_settings
from ctma.types import Pixels

SIDE = 1000
"""Longest side of an overview, pixels."""

MOST_OUTLINES = 20_000
"""Largest number of drawn polygons, the first ones of the layer."""


def draw_overview(
    path: Path,
    probability: Path,
    polygons: Path,
    changes: int,
    pictures: tuple[Pixels, Pixels],
    title: str,
) -> None:
    """Draws the result of a run over a scene.

    Args:
        path: The path of the PNG.
        probability: The run's raster of probability.
        polygons: The run's file of polygons.
        changes: Number of polygons.
        pictures: Both dates as the network saw them, at any size.
        title: The title of the picture.

    Raises:
        OutputError: If the picture cannot be written.
    """
    with raster_settings(), rasterio.open(probability) as raster:
        factor = max(1.0, max(raster.shape) / SIDE)
        shape = tuple(max(1, round(side / factor)) for side in raster.shape)
        stored = raster.read(1, out_shape=shape)
        scaled = np.where(stored == raster.nodata, np.nan, stored * raster.scales[0])
        to_pixels, crs = ~raster.transform, raster.crs
    before, after = (_reduce(picture, shape) for picture in pictures)
    rings = (np.array(polygon.exterior.coords)[:, :2] for polygon in _read_polygons(polygons, crs))
    outlines = [np.stack(to_pixels @ (ring[:, 0], ring[:, 1]), axis=1) / factor for ring in rings]
    save_scene(path, Overview(before, after, scaled.astype(np.float32), outlines, changes), title)


def _read_polygons(path: Path, crs: CRS) -> Iterable[Any]:
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

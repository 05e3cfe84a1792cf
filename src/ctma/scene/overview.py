"""A scene's result as arrays of a size to look at."""

from __future__ import annotations

from typing import NamedTuple

import geopandas
import numpy as np
import pyogrio
import rasterio
from numpy.typing import NDArray

from ctma.scene.plan import Date
from ctma.scene.predict import SceneResult
from ctma.scene.source import Source, open_raster, raster_settings

SIDE = 1000
"""Longest side of an overview, pixels."""

MOST_OUTLINES = 20_000
"""Polygons that are drawn at most, the first of the layer."""


class Overview(NamedTuple):
    """What there is to look at.

    Attributes:
        before: (H, W, 3) uint8, as the network sees it.
        after: The same, moved if the dates were coregistered.
        probability: (H, W) float32, NaN where there is no data.
        outlines: The polygons' outer rings, each (N, 2) columns and rows of the overview.
        changes: How many polygons there are; not all of very many are outlined.
    """

    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    probability: NDArray[np.float32]
    outlines: list[NDArray[np.float64]]
    changes: int


def read_overview(result: SceneResult) -> Overview:
    """Reads a scene's result and both dates, decimated.

    Raises:
        SceneError: If a raster cannot be read any more.
    """
    plan = result.plan
    with (
        raster_settings(plan.before.path, plan.after.path),
        rasterio.open(result.probability) as raster,
    ):
        factor = max(1.0, max(raster.shape) / SIDE)
        shape = tuple(max(1, round(side / factor)) for side in raster.shape)
        stored = raster.read(1, out_shape=shape)
        probability = np.where(stored == raster.nodata, np.nan, stored * raster.scales[0])
        before, after = (_picture(date, shape) for date in (plan.before, plan.after))
        to_pixels = ~raster.transform
    if result.changes.suffix == ".parquet":
        polygons = geopandas.read_parquet(result.changes)[:MOST_OUTLINES]
    else:
        polygons = pyogrio.read_dataframe(result.changes, max_features=MOST_OUTLINES)
    rings = (np.array(polygon.exterior.coords)[:, :2] for polygon in polygons.geometry)
    outlines = [np.stack(to_pixels @ (ring[:, 0], ring[:, 1]), axis=1) / factor for ring in rings]
    changes = result.summary["changes"]
    return Overview(before, after, probability.astype(np.float32), outlines, changes)


def _picture(date: Date, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The first three bands of a date (or the first one thrice) as the network sees them."""
    with open_raster(date.path) as raster, Source(raster, date.grid, date.bands) as source:
        values, valid = source.overview
    scaled = date.scaling.apply(values) * valid
    bands = scaled[:3] if len(scaled) >= 3 else scaled[:1].repeat(3, axis=0)
    rows, columns = (
        np.arange(side) * full // side for side, full in zip(shape, valid.shape, strict=True)
    )
    return (255 * bands[:, rows[:, None], columns]).astype(np.uint8).transpose(1, 2, 0)

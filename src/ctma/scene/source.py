"""One date of a scene: a raster seen through the common grid, scaled for the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import DatasetReader
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from ctma.errors import SceneError
from ctma.scene.grid import Grid

SAMPLE_SIDE = 1024
"""Longest side of the decimated read that percentiles are taken from, pixels."""

PERCENTILES = (1.0, 99.0)


@dataclass(frozen=True)
class Scaling:
    """Which stored values become 0 and 1, for each band, the same over the whole scene.

    Attributes:
        low: Stored value that becomes 0, for each band.
        high: Stored value that becomes 1, for each band.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def apply(self, values: NDArray) -> NDArray[np.float32]:
        """(bands, H, W) stored values to [0, 1], clipped."""
        low = np.array(self.low, np.float32)[:, None, None]
        high = np.array(self.high, np.float32)[:, None, None]
        scaled = (values.astype(np.float32) - low) / (high - low)
        return np.clip(scaled, 0, 1, out=scaled)


class Source:
    """Bands of a raster, warped on the fly onto a grid.

    Args:
        raster: An open raster; it must stay open as long as the source is used.
        grid: The grid to read on.
        bands: Band numbers, from 1.

    Raises:
        SceneError: If the raster cannot be warped.
    """

    def __init__(self, raster: DatasetReader, grid: Grid, bands: Sequence[int]):
        self.raster = raster
        self.bands = list(bands)
        # Without a nodata value or a mask of its own, the warp needs an alpha band to say
        # where the raster ends.
        own_mask = raster.nodata is not None or ColorInterp.alpha in raster.colorinterp
        try:
            self.warped = WarpedVRT(
                raster,
                crs=grid.crs,
                transform=grid.transform,
                width=grid.width,
                height=grid.height,
                resampling=Resampling.bilinear,
                add_alpha=not own_mask,
            )
        except RasterioError as error:
            raise SceneError(f"{raster.name}: cannot be warped ({error})") from error

    def read(self, window: Window) -> tuple[NDArray, NDArray[np.bool_]]:
        """Stored values (bands, H, W) of a window, and where they are valid (H, W).

        Raises:
            SceneError: If a block cannot be decoded.
        """
        return self._read(window=window)

    def sample(self, side: int = SAMPLE_SIDE) -> tuple[NDArray, NDArray[np.bool_]]:
        """A decimated read of the whole grid, at most ``side`` pixels long; as :meth:`read`."""
        factor = max(1.0, max(self.warped.width, self.warped.height) / side)
        height, width = (
            max(1, round(side / factor)) for side in (self.warped.height, self.warped.width)
        )
        return self._read(out_shape=(height, width))

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.warped.close()

    def _read(
        self, window: Window | None = None, out_shape: tuple[int, int] | None = None
    ) -> tuple[NDArray, NDArray[np.bool_]]:
        shape = None if out_shape is None else (len(self.bands), *out_shape)
        try:
            values = self.warped.read(self.bands, window=window, out_shape=shape)
            mask = self.warped.dataset_mask(window=window, out_shape=out_shape)
        except RasterioError as error:
            raise SceneError(f"{self.raster.name}: a block cannot be read ({error})") from error
        valid = mask > 0
        if np.issubdtype(values.dtype, np.floating):
            valid &= np.isfinite(values).all(axis=0)
        return np.where(valid, values, 0), valid


def open_raster(path: str) -> DatasetReader:
    """Opens a raster: a file, a URL of a COG, or a ``/vsi…`` path.

    Raises:
        SceneError: If it cannot be opened.
    """
    try:
        return rasterio.open(path)
    except (RasterioIOError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise SceneError(f"{path}: cannot be opened as a raster ({reason})") from error


def choose_bands(raster: DatasetReader, wanted: Sequence[int] | None, count: int) -> list[int]:
    """Bands for a network of ``count`` bands: those wanted, or the first that are no alpha.

    Raises:
        SceneError: If there are too few, or one is out of range.
    """
    if wanted is None:
        colours = [
            number
            for number, kind in enumerate(raster.colorinterp, start=1)
            if kind != ColorInterp.alpha
        ]
        if len(colours) < count:
            raise SceneError(f"{raster.name}: has {len(colours)} bands, the network takes {count}")
        return colours[:count]
    outside = [number for number in wanted if not 1 <= number <= raster.count]
    if outside:
        raise SceneError(f"{raster.name}: no band {outside[0]}, it has 1 to {raster.count}")
    if len(wanted) != count:
        raise SceneError(f"--bands names {len(wanted)} bands, the network takes {count}")
    return list(wanted)


def estimate_scaling(source: Source, full_scale: float) -> Scaling:
    """How the values of one date are scaled, over the whole scene and never per window.

    8-bit values are divided by the checkpoint's full scale; others run from the 1st to the
    99th percentile of each band, from a decimated read.

    Args:
        source: One date.
        full_scale: The stored 8-bit value that stands for 1.

    Raises:
        SceneError: If there is no valid pixel.
    """
    values, valid = source.sample()
    if not valid.any():
        raise SceneError(f"{source.raster.name}: has no valid pixel where the dates overlap")
    if values.dtype == np.uint8:
        return Scaling((0.0,) * len(values), (float(full_scale),) * len(values))
    low, high = np.percentile(values[:, valid].astype(np.float64), PERCENTILES, axis=1)
    high = np.where(high > low, high, low + 1)
    return Scaling(tuple(low.tolist()), tuple(high.tolist()))

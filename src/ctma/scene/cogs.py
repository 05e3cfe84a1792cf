"""Writes rasters as Cloud Optimized GeoTIFFs (COGs), and reads them back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from ctma.errors import OutputError, first_line
from ctma.files import whole_file
from ctma.scene.grid import Grid
from ctma.scene.names import RASTERS
from ctma.scene.rasters import heeding_errors
from ctma.scene.strips import NO_DATA, row_windows


def write_mask(path: Path, grid: Grid, strips: Iterable[NDArray[np.uint8]]) -> None:
    """Writes a mask as a COG, whole or not at all.

    Args:
        path: The file.
        grid: The grid of the mask.
        strips: The mask from top to bottom, (rows, W): 1 is change, 255 no data.

    Raises:
        OutputError: If the file cannot be written.
    """
    write_plane(path, grid, strips, 1.0, RASTERS["mask.tif"])


def write_plane(
    path: Path, grid: Grid, strips: Iterable[NDArray[np.uint8]], scale: float, resampling: str
) -> None:
    """Writes a raster of one band as a COG, whole or not at all.

    Args:
        path: The file.
        grid: The grid of the raster.
        strips: The values from top to bottom, (rows, W); 255 is no data.
        scale: Factor from stored values to what they mean.
        resampling: How overviews are made.

    Raises:
        OutputError: If the file cannot be written.
    """
    with whole_file(path) as part:
        plain = part.with_suffix(".raw")
        try:
            with plain.open("wb") as raw:
                for strip in strips:
                    raw.write(np.ascontiguousarray(strip).data)
            pack(plain, describe_raw(plain, grid, scale), part, resampling, beside=1)
        except (RasterioError, CPLE_BaseError) as error:
            raise OutputError(f"cannot write {path}: {first_line(error)}") from error
        finally:
            plain.unlink(missing_ok=True)
            plain.with_suffix(".vrt").unlink(missing_ok=True)


def pack(plain: Path, described: Path, part: Path, resampling: str, beside: int) -> None:
    """Makes a COG of the bytes of a raster, and reads the COG back.

    Args:
        plain: The bytes of the raster.
        described: The VRT of the bytes.
        part: The COG.
        resampling: How overviews are made.
        beside: Number of rasters that are packed at once, which share the cores.

    Raises:
        OutputError: If the disk did not take the COG.
    """
    threads = max(1, (os.cpu_count() or 1) // beside)
    with heeding_errors(part):
        rasterio.shutil.copy(
            described, part, driver="COG", compress="lzw", bigtiff="if_safer",
            num_threads=threads, overview_resampling=resampling,
        )  # fmt: skip
    _check_raster(part, plain)


def _check_raster(part: Path, plain: Path) -> None:
    """Reads a COG back: libtiff does not report each write that fails.

    Raises:
        OutputError: If the COG does not hold the bytes, or an overview cannot be read.
    """
    with plain.open("rb") as raw:
        for values in _read_rows(part):
            if not np.array_equal(values, np.fromfile(raw, np.uint8, values.size)):
                raise OutputError(f"cannot write {part}: the disk did not take all of the raster")
    with rasterio.open(part) as raster:
        levels = len(raster.overviews(1))
    for level in range(levels):
        for _ in _read_rows(part, overview_level=level):
            pass


def _read_rows(path: Path, **options: int) -> Iterator[NDArray[np.uint8]]:
    """The values of a raster, some rows after the other."""
    with rasterio.open(path, **options) as raster:
        for window in row_windows(raster.width, raster.height):
            yield raster.read(1, window=window).ravel()


def describe_raw(raw: Path, grid: Grid, scale: float) -> Path:
    """Writes a VRT beside the bytes of a raster, row after row, so that GDAL can read them.

    GDAL does not write the bytes itself: on a full disk, libtiff may never return.
    """
    place = ", ".join(map(repr, grid.transform.to_gdal()))
    path = raw.with_suffix(".vrt")
    path.write_text(
        f'<VRTDataset rasterXSize="{grid.width}" rasterYSize="{grid.height}">'
        f"<SRS>{escape(grid.crs.to_wkt(), quote=False)}</SRS><GeoTransform>{place}</GeoTransform>"
        '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
        f"<NoDataValue>{NO_DATA}</NoDataValue><Scale>{scale!r}</Scale>"
        f'<SourceFilename relativeToVRT="1">{escape(raw.name, quote=False)}</SourceFilename>'
        f"<PixelOffset>1</PixelOffset><LineOffset>{grid.width}</LineOffset>"
        "</VRTRasterBand></VRTDataset>",
        encoding="utf-8",
    )
    return path

"""Finds a file's georeference with GDAL, whatever the name of the file."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import DatasetReader
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from ctma.errors import SceneError


class Georeference(NamedTuple):
    """The georeference of a file.

    Attributes:
        scene: Whether the file has a CRS, so that ctma can make a map from the file.
        lost: The georeference that an image's mask cannot keep; empty if there is none.
        outline: Corners of the image by a transform without a CRS, (4, 2); ``None`` without one.
        pixel: Side of a pixel in the units of the transform.
    """

    scene: bool
    lost: str = ""
    outline: NDArray[np.float64] | None = None
    pixel: float = 0.0

    def agrees(self, other: Georeference) -> bool:
        """Whether both images lie on one place, to half a pixel, as far as they say."""
        if self.outline is None or other.outline is None:
            return True
        apart = np.abs(self.outline - other.outline).max()
        return bool(apart <= min(self.pixel, other.pixel) / 2)


def find_georeference(path: str | Path) -> Georeference:
    """The georeference of a file; a file that is no raster has none.

    Raises:
        SceneError: If GDAL cannot take the file's name.
    """
    if Path(path).is_dir():
        return Georeference(False)
    try:
        # A raster without a georeference is a valid answer here, so do not warn.
        with (
            warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
            rasterio.open(path) as raster,
        ):
            has_crs = raster.crs is not None or raster.gcps[1] is not None
            # Such a container holds rasters under names of their own, as netCDF does.
            if has_crs or (raster.count == 0 and raster.subdatasets):
                return Georeference(True)
            lost = _find_lost(raster)
            if raster.transform.is_identity:
                return Georeference(False, lost)
            return Georeference(False, lost, *_find_outline(raster))
    except RasterioError:
        return Georeference(False)
    except UnicodeEncodeError as error:
        raise SceneError(f"{path}: its name is no UTF-8, as GDAL needs it; rename it") from error


def _find_outline(raster: DatasetReader) -> tuple[NDArray[np.float64], float]:
    corners = [(x, y) for x in (0, raster.width) for y in (0, raster.height)]
    outline = np.array([raster.transform @ corner for corner in corners])
    return outline, math.sqrt(abs(raster.transform.determinant))


def _find_lost(raster: DatasetReader) -> str:
    """The georeference of a raster without a CRS, in words; empty if there is none."""
    if raster.rpcs is not None:
        return "rational polynomials (RPC)"
    if raster.gcps[0]:
        return "ground control points without a CRS"
    return "" if raster.transform.is_identity else "a transform without a CRS"

"""Finds a file's georeference with GDAL, whatever the name of the file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import rasterio
from rasterio import DatasetReader
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from ctma.errors import SceneError


class Georeference(NamedTuple):
    """The georeference of a file.

    Attributes:
        scene: Whether the file has a CRS, so that ctma can make a map from the file.
        lost: The georeference that an image's mask cannot keep; empty if there is none.
    """

    scene: bool
    lost: str = ""


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
            return Georeference(has_crs, "" if has_crs else _find_lost(raster))
    except RasterioError:
        return Georeference(False)
    except UnicodeEncodeError as error:
        raise SceneError(f"{path}: its name is no UTF-8, as GDAL needs it; rename it") from error


def _find_lost(raster: DatasetReader) -> str:
    """The georeference of a raster without a CRS, in words; empty if there is none."""
    if raster.rpcs is not None:
        return "rational polynomials (RPC)"
    if raster.gcps[0]:
        return "ground control points without a CRS"
    return "" if raster.transform.is_identity else "a transform without a CRS"

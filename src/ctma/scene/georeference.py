"""Whether a file knows its place on the ground: asked of GDAL, whatever the file is called."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import rasterio
from rasterio import DatasetReader
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from ctma.errors import SceneError


class Georeference(NamedTuple):
    """What a file says of its place.

    Attributes:
        scene: Whether it has a CRS, so that a map can be made of it.
        lost: What it says of its place that an image's mask cannot keep; empty if nothing.
    """

    scene: bool
    lost: str = ""


def find_georeference(path: str | Path) -> Georeference:
    """What a file says of its place; what is no raster says nothing.

    Raises:
        SceneError: If GDAL cannot be asked, because of the file's name.
    """
    if Path(path).is_dir():
        return Georeference(False)
    try:
        # A raster without a place is an answer here, not a reason to warn.
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
    """What a raster without a CRS says of its place all the same."""
    if raster.rpcs is not None:
        return "rational polynomials (RPC)"
    if raster.gcps[0]:
        return "ground control points without a CRS"
    return "" if raster.transform.is_identity else "a transform without a CRS"

"""Chooses the bands of a raster that a network sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rasterio import DatasetReader
from rasterio.enums import ColorInterp

from ctma.errors import SceneError, warn
from ctma.scene.rasters import raster_errors
from ctma.types import IMAGE_BANDS, name_bands

_COLOURS = {
    "red": ColorInterp.red,
    "green": ColorInterp.green,
    "blue": ColorInterp.blue,
}


def choose_bands(
    raster: DatasetReader, wanted: Sequence[int] | None, names: Sequence[str]
) -> list[int]:
    """The numbers of the bands for a network: those wanted, or those found in the raster.

    Without wanted bands, the choice is the bands that are described by the network's names. For
    a network of red, green and blue, the next choices are:

    - the bands tagged red, green and blue, where each colour is tagged once;
    - a single band (grey, or a palette) three times, where the raster has no other band.

    Otherwise the choice is the first bands that are no alpha.

    Args:
        raster: The raster.
        wanted: Band numbers from 1, ``None`` to find them in the raster.
        names: The names of the network's bands.

    Raises:
        SceneError: If there are too few bands, or a number is out of range.
    """
    takes = f"the network takes {len(names)}: {', '.join(names)}"
    if wanted is not None:
        outside = [number for number in wanted if not 1 <= number <= raster.count]
        if outside:
            raise SceneError(f"{raster.name}: no band {outside[0]}, it has 1 to {raster.count}")
        if len(wanted) != len(names):
            raise SceneError(f"`bands` names {len(wanted)} bands, {takes}")
        return list(wanted)
    with raster_errors(f"{raster.name}: cannot be read"):
        kinds = raster.colorinterp
        described = [str(name).lower() for name in raster.descriptions]
    if all(described.count(name) == 1 for name in names):
        return [described.index(name) + 1 for name in names]
    colours = [number for number, kind in enumerate(kinds, start=1) if kind != ColorInterp.alpha]
    if set(names) == set(IMAGE_BANDS):
        if all(kinds.count(kind) == 1 for kind in _COLOURS.values()):
            return [kinds.index(_COLOURS[name]) + 1 for name in names]
        if len(colours) == 1:
            return colours * len(names)
    if len(colours) < len(names):
        raise SceneError(f"{raster.name}: has {len(colours)} bands, {takes}")
    if {*names} != {*IMAGE_BANDS} and tuple(names) != name_bands(len(names)):
        warn(f"{raster.name}: names no bands; they are taken in order as {', '.join(names)}")
    return colours[: len(names)]


def find_palette(raster: DatasetReader, bands: Sequence[int]) -> NDArray[np.uint8] | None:
    """The colours that the values of a band stand for.

    Args:
        raster: The raster.
        bands: The numbers of the bands that the network sees. A palette applies only where these
            are one band three times.

    Returns:
        (values, 4): red, green, blue, alpha, by stored value; ``None`` where there is no palette.
    """
    number = bands[0]
    if set(bands) != {number} or len(bands) != len(IMAGE_BANDS):
        return None
    if raster.colorinterp[number - 1] != ColorInterp.palette:
        return None
    colours = raster.colormap(number)
    palette = np.zeros((np.iinfo(raster.dtypes[number - 1]).max + 1, 4), np.uint8)
    palette[list(colours)] = list(colours.values())
    return palette

"""Burns outlines into masks, strip by strip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import rasterio.windows
import shapely
from rasterio.features import rasterize
from rasterio.transform import Affine
from rasterio.windows import Window
from shapely.geometry.base import BaseGeometry

from ctma.scene.grid import Grid
from ctma.scene.strips import row_windows
from ctma.types import Pixels


def burn(
    outlines: Sequence[BaseGeometry],
    transform: Affine,
    shape: tuple[int, int],
    all_touched: bool = False,
) -> Pixels:
    """A mask (H, W): 1 where the centre of a pixel lies in an outline.

    Args:
        outlines: The outlines.
        transform: From columns and rows to the outlines' coordinates.
        shape: Height and width of the mask.
        all_touched: Whether each pixel counts that an outline touches.
    """
    if not outlines:
        return np.zeros(shape, np.uint8)
    burned: Pixels = rasterize(
        outlines, out_shape=shape, transform=transform, dtype=np.uint8, all_touched=all_touched
    )
    return burned


def burn_strips(outlines: Sequence[BaseGeometry], grid: Grid) -> Iterator[tuple[Window, Pixels]]:
    """The strips of a mask from top to bottom, each with its window of the grid."""
    tree = shapely.STRtree(outlines)
    for window in row_windows(grid.width, grid.height):
        near = tree.query(shapely.box(*rasterio.windows.bounds(window, grid.transform)))
        place = rasterio.windows.transform(window, grid.transform)
        shape = (window.height, window.width)
        yield window, burn([outlines[index] for index in near], place, shape)

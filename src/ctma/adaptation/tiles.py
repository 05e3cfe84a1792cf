"""Writes the tiles of a scene, and adds them to a data set."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from ctma.data.footprints import Footprint
from ctma.files import whole_folder, write_errors
from ctma.scene.rasters import heeding_errors
from ctma.types import IGNORED, Pixels


@contextmanager
def extended_folder(folder: Path, exists: bool) -> Iterator[Path]:
    """Gives a temporary folder, whose files are in ``folder`` once the block succeeds.

    Args:
        folder: The folder of a data set.
        exists: Whether the folder is there already, and is added to.

    Raises:
        OutputError: If the folder cannot be written.
    """
    if not exists:
        with whole_folder(folder) as part:
            yield part
        return
    part = folder / ".part"
    with write_errors(folder):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            yield part
            # The record comes last: tiles of a scene that it lacks are removed by the next run.
            for path in sorted(part.rglob("*"), key=lambda path: path.suffix == ".json"):
                if path.is_file():
                    target = folder / path.relative_to(part)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(path, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def write_image(
    path: Path,
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    names: Sequence[str],
    place: Footprint,
) -> None:
    """Writes an image of some bands, (bands, H, W), and where it has data."""
    # GDAL would take four bands of 8 bits for colours with alpha.
    profile = {"photometric": "RGB" if len(names) == 3 else "MINISBLACK"}
    with _created(path, values, place, **profile) as raster:
        raster.write(values)
        raster.descriptions = tuple(names)
        if not valid.all():
            raster.write_mask(valid)


def write_label(path: Path, change: Pixels, place: Footprint) -> None:
    """Writes a label, (H, W): 0, 1 or ``IGNORED``, which becomes the nodata value."""
    with _created(path, change[None], place, nodata=IGNORED) as raster:
        raster.write(change[None])


@contextmanager
def _created(
    path: Path, values: NDArray[Any], place: Footprint, **profile: Any
) -> Iterator[rasterio.io.DatasetWriter]:
    """A new GeoTIFF that is closed, and checked, at the end of the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        heeding_errors(path),
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", count=len(values), height=place.height, width=place.width,
            dtype=values.dtype, crs=place.crs, transform=place.transform, compress="deflate",
            **profile,
        ) as raster,
    ):  # fmt: skip
        yield raster

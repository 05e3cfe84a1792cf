"""One date of a scene: a raster seen through the common grid, scaled for the network."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import rasterio
from affine import AffineError
from numpy.typing import NDArray
from rasterio import DatasetReader

# GDAL's own errors have no public name in rasterio, and some functions let them through.
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from ctma.errors import CtmaError, SceneError, first_line
from ctma.scene.grid import SNAP, Grid

OVERVIEW_SIDE = 1536
"""Longest side of the decimated read that scaling and shift are found on, pixels."""

SLAB_ROWS = 512
"""Rows of a raster that are decimated at a time."""

PERCENTILES = (1.0, 99.0)

CACHE_BYTES = 32 * 2**20
"""Room for the blocks that neighbouring windows share."""


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
        scaled = np.subtract(values, low, dtype=np.float32)
        scaled /= high - low
        return np.clip(scaled, 0, 1, out=scaled)


class Source:
    """Bands of a raster on a grid: read as they are where the grid is the raster's own,
    else warped on the fly.

    Args:
        raster: An open raster; it must stay open as long as the source is used.
        grid: The grid to read on.
        bands: Band numbers, from 1.

    Raises:
        SceneError: If the raster cannot be warped, or its values are no real numbers.
    """

    def __init__(self, raster: DatasetReader, grid: Grid, bands: Sequence[int]):
        self.raster = raster
        self.grid = grid
        self.bands = list(bands)
        if any(raster.dtypes[band - 1].startswith("complex") for band in bands):
            raise SceneError(f"{raster.name}: holds complex values, the network takes real ones")
        self.solid = all(MaskFlags.all_valid in flags for flags in raster.mask_flag_enums)
        corner = _corner_on(raster, grid)
        self.view: DatasetReader | WarpedVRT = raster if corner else self._warp()
        self.left, self.top = corner or (0, 0)

    def _warp(self) -> WarpedVRT:
        # Without a nodata value or a mask of its own, the warp needs an alpha band to say
        # where the raster ends.
        self.solid = False
        own_mask = self.raster.nodata is not None or ColorInterp.alpha in self.raster.colorinterp
        with raster_errors(f"{self.raster.name}: cannot be warped"):
            return WarpedVRT(
                self.raster,
                crs=self.grid.crs,
                transform=self.grid.transform,
                width=self.grid.width,
                height=self.grid.height,
                resampling=Resampling.bilinear,
                add_alpha=not own_mask,
            )

    def read(self, window: Window) -> tuple[NDArray, NDArray[np.bool_]]:
        """Stored values (bands, H, W) of a window, and where they are valid (H, W).

        Raises:
            SceneError: If a block cannot be decoded.
        """
        return self._read(window)

    @cached_property
    def overview(self) -> tuple[NDArray, NDArray[np.bool_]]:
        """A decimated read of the whole grid, at most ``OVERVIEW_SIDE`` long; as :meth:`read`."""
        height, width = self.grid.height, self.grid.width
        factor = max(1.0, max(width, height) / OVERVIEW_SIDE)
        rows, columns = max(1, round(height / factor)), max(1, round(width / factor))
        # In slabs: GDAL reads band after band, and would go through the whole file for each.
        step = max(1, round(SLAB_ROWS / factor))
        parts = []
        for first in range(0, rows, step):
            last = min(first + step, rows)
            top, bottom = (round(edge * height / rows) for edge in (first, last))
            parts.append(self._read(Window(0, top, width, bottom - top), (last - first, columns)))
        values = np.concatenate([part[0] for part in parts], axis=1)
        valid = np.concatenate([part[1] for part in parts])
        if not valid.any():
            raise SceneError(f"{self.raster.name}: has no valid pixel where the dates overlap")
        return values, valid

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        if self.view is not self.raster:
            self.view.close()

    def _read(
        self, window: Window, shape: tuple[int, int] | None = None
    ) -> tuple[NDArray, NDArray[np.bool_]]:
        window = Window(
            window.col_off + self.left, window.row_off + self.top, window.width, window.height
        )
        with raster_errors(f"{self.raster.name}: a block cannot be read"):
            values = self.view.read(
                self.bands, window=window, out_shape=shape and (len(self.bands), *shape)
            )
            valid = self._valid(window, shape or (window.height, window.width))
        if np.issubdtype(values.dtype, np.floating):
            valid &= np.isfinite(values).all(axis=0)
        return values if valid.all() else np.where(valid, values, 0), valid

    def _valid(self, window: Window, shape: tuple[int, int]) -> NDArray[np.bool_]:
        if self.solid:
            return np.ones(shape, bool)
        masks = self.view.read_masks(self.bands, window=window, out_shape=(len(self.bands), *shape))
        return (masks > 0).any(axis=0)


def raster_settings() -> rasterio.Env:
    """How GDAL reads and writes here: a cache of bounded size, all cores, patient with servers."""
    return rasterio.Env(
        GDAL_CACHEMAX=CACHE_BYTES,
        GDAL_NUM_THREADS="ALL_CPUS",
        GDAL_HTTP_MAX_RETRY=5,
        GDAL_HTTP_RETRY_DELAY=1,
        VSI_CACHE=True,
    )


def open_raster(path: str) -> DatasetReader:
    """Opens a raster: a file, a URL of a COG, or a ``/vsi…`` path.

    Files beside it (masks, statistics, world files) are looked for where a listing costs
    nothing; a remote COG is read by ranges, and a listing would only cost round trips.

    Raises:
        SceneError: If it cannot be opened.
    """
    listing = "EMPTY_DIR" if is_remote(path) else "FALSE"
    # A missing CRS is said in an error of our own.
    with (
        raster_errors(f"{path}: cannot be opened as a raster"),
        warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
        rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN=listing),
    ):
        return rasterio.open(path)


_REMOTE = re.compile(
    r"https?://|ftp://|s3://|gs://|az://|/vsi(curl|s3|gs|az|adls|oss|swift|\w*hdfs)"
)


def is_remote(path: str) -> bool:
    """Whether a raster lies on a server, be it inside an archive there."""
    return _REMOTE.search(path) is not None


def files_beside(path: str) -> list[str]:
    """What a raster consists of beside its own file: masks, statistics, the sources of a VRT.

    Args:
        path: A raster; one in an archive has the archive, one on a server nothing.
    """
    if is_remote(path):
        return []
    found: dict[str, None] = {}
    coming = [path]
    while coming:
        with open_raster(coming.pop()) as raster:
            files = [str(Path(file)) for file in raster.files if Path(file).is_file()]
        new = [file for file in files if file not in found]
        found.update(dict.fromkeys(new))
        coming += [file for file in new if file != path and file.lower().endswith(".vrt")]
    archive = next((str(part) for part in _inside(path) if part.is_file()), None)
    beside = {file for file in found if Path(file).resolve() != Path(path).resolve()}
    return sorted(beside | ({archive} if archive else set()))


def _inside(path: str) -> Sequence[Path]:
    """Folders and archives that a path into an archive goes through, the innermost first."""
    _, prefix, rest = path.rpartition("/vsi")
    return Path(rest.partition("/")[2]).parents if prefix else ()


@contextmanager
def raster_errors(what: str) -> Iterator[None]:
    """Turns whatever GDAL and rasterio raise into one line that begins with ``what``.

    Raises:
        SceneError: Instead of theirs.
    """
    try:
        yield
    except CtmaError:
        raise
    except (
        RasterioError, CPLE_BaseError, AffineError, OSError, ValueError, OverflowError, MemoryError
    ) as error:  # fmt: skip
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise SceneError(f"{what} ({first_line(cause)})") from error


def choose_bands(
    raster: DatasetReader, wanted: Sequence[int] | None, names: Sequence[str]
) -> list[int]:
    """The bands that a network takes: those wanted, or the first that are no alpha.

    Args:
        raster: The raster.
        wanted: Band numbers from 1, ``None`` for the first ones.
        names: What the network's bands are.

    Raises:
        SceneError: If there are too few, or one is out of range.
    """
    takes = f"the network takes {len(names)}: {', '.join(names)}"
    if wanted is None:
        colours = [
            number
            for number, kind in enumerate(raster.colorinterp, start=1)
            if kind != ColorInterp.alpha
        ]
        if len(colours) < len(names):
            raise SceneError(f"{raster.name}: has {len(colours)} bands, {takes}")
        return colours[: len(names)]
    outside = [number for number in wanted if not 1 <= number <= raster.count]
    if outside:
        raise SceneError(f"{raster.name}: no band {outside[0]}, it has 1 to {raster.count}")
    if len(wanted) != len(names):
        raise SceneError(f"`bands` names {len(wanted)} bands, {takes}")
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
    values, valid = source.overview
    if values.dtype == np.uint8:
        return unit_scaling(len(values), full_scale)
    return percentile_scaling(values[:, valid])


def unit_scaling(bands: int, full_scale: float) -> Scaling:
    """From 0 to the stored value that stands for 1."""
    return Scaling((0.0,) * bands, (float(full_scale),) * bands)


def percentile_scaling(values: NDArray) -> Scaling:
    """From the 1st to the 99th percentile of each band of valid values, (bands, N)."""
    low, high = np.percentile(values.astype(np.float64), PERCENTILES, axis=1)
    high = np.where(high > low, high, low + 1)
    return Scaling(tuple(low.tolist()), tuple(high.tolist()))


def _corner_on(raster: DatasetReader, grid: Grid) -> tuple[int, int] | None:
    """Column and row of a grid that runs along the raster's own pixels, else ``None``."""
    own = raster.transform
    if raster.crs != grid.crs or not own.almost_equals(
        grid.transform @ Affine.translation(*(~grid.transform @ (own.c, own.f))), 1e-12
    ):
        return None
    column, row = ~own @ (grid.transform.c, grid.transform.f)
    left, top = round(column), round(row)
    inside = 0 <= left <= raster.width - grid.width and 0 <= top <= raster.height - grid.height
    exact = max(abs(column - left), abs(row - top)) < SNAP
    return (left, top) if inside and exact else None

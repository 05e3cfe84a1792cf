"""One date of a scene: a raster, read on the common grid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio import DatasetReader
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from ctma.errors import SceneError
from ctma.scene.bands import find_palette
from ctma.scene.grid import SNAP, Grid, crs_around, own_grid
from ctma.scene.rasters import open_raster, raster_errors
from ctma.scene.servers import read_patiently

OVERVIEW_SIDE = 1536
"""Longest side, in pixels, of the decimated read for scaling and shift."""

SLAB_ROWS = 512
"""Rows of a raster that are decimated at a time."""


class Source:
    """Bands of a raster, read on a grid.

    Where the grid runs along the raster's own pixels, the source reads the values unchanged. Else
    it warps the raster on the fly. The colours of a palette replace the palette's values.

    A pixel is valid where no band has a hole: a nodata value, mask, alpha or NaN. In 8-bit colours
    that share one nodata value, only a pixel with this value in every band is a hole: one band of
    a shadow often has the value 0.

    Args:
        raster: An open raster; it must stay open as long as the source is used.
        grid: The grid to read on.
        bands: Band numbers, from 1.
        nodata: The stored value that means no data, in bands without a nodata value of their own.
        nodata_any: Whether also in 8-bit colours one band with its nodata value makes a hole.

    Raises:
        SceneError: If the raster cannot be warped, or its values are no real numbers.
    """

    def __init__(
        self,
        raster: DatasetReader,
        grid: Grid,
        bands: Sequence[int],
        nodata: float | None = None,
        nodata_any: bool = False,
    ):
        self.raster = raster
        self.own_raster: DatasetReader | None = None
        self.grid = grid
        with raster_errors(f"{raster.name}: cannot be read"):
            self._find_out(list(bands), nodata, nodata_any)
        self.views = self._make_views()

    def _find_out(self, bands: list[int], nodata: float | None, nodata_any: bool) -> None:
        """Finds out where the raster has data, and whether the grid runs along its pixels."""
        raster, grid = self.raster, self.grid
        self.palette = find_palette(raster, bands)
        self.bands = bands if self.palette is None else [bands[0]]
        if any(raster.dtypes[band - 1].startswith("complex") for band in bands):
            raise SceneError(f"{raster.name}: holds complex values, the network takes real ones")
        _check_nodata(raster, self.bands, nodata)
        flags = [raster.mask_flag_enums[band - 1] for band in self.bands]
        self.masked = any(MaskFlags.per_dataset in flag for flag in flags)
        tagged = [raster.nodatavals[band - 1] for band in self.bands]
        self.nodata = [nodata if value is None else value for value in tagged]
        # GDAL's masks heed no value that only the user names, and none beside a mask.
        self.unheeded = [value is None or self.masked for value in tagged]
        self.together = self._are_colours() and not nodata_any
        self.corner = _corner_on(raster, grid)
        self.solid = self.corner is not None and all(MaskFlags.all_valid in flag for flag in flags)
        self.alpha = self._choose_alpha(flags)

    def _choose_alpha(self, flags: list[list[MaskFlags]]) -> int | None:
        """The alpha band to ask beside GDAL's masks, if any.

        GDAL's masks heed alpha only in the last of two or four bands, without nodata values.
        """
        own, unnamed = _find_alpha(self.raster), {*self.nodata} == {None}
        if unnamed and own is None and not self.corner:
            # The warp adds an alpha band, to say where the raster ends.
            return self.raster.count + 1
        heeded = unnamed and all(MaskFlags.alpha in flag for flag in flags)
        return None if heeded else own

    def _make_views(self) -> list[DatasetReader | WarpedVRT]:
        return [self.raster] if self.corner else [*self._warp()]

    def _are_colours(self) -> bool:
        """Whether the bands are several of 8 bits that share one nodata value."""
        shared = {*self.nodata}
        kinds = {self.raster.dtypes[band - 1] for band in self.bands}
        return (
            len({*self.bands}) > 1
            and kinds == {"uint8"}
            and len(shared) == 1
            and None not in shared
        )

    def _warp(self) -> list[WarpedVRT]:
        """One view of all bands, or one view per band where the bands' nodata values differ."""
        values = dict.fromkeys(self.nodata)
        views = [*values] if len(values) == 1 else self.nodata
        # GDAL looks at all bands of the raster, also at those that are not read. Then a hole in a
        # block makes it skip the raster's mask.
        whole = {*self.bands} == {*self.raster.indexes}
        unified = self.together and whole and not self.masked
        geographic = self.grid.crs.is_geographic
        source_crs = self.raster.crs if geographic else crs_around(own_grid(self.raster))
        with raster_errors(f"{self.raster.name}: cannot be warped"):
            return [
                WarpedVRT(
                    self.raster,
                    src_crs=source_crs,
                    crs=self.grid.crs,
                    transform=self.grid.transform,
                    width=self.grid.width,
                    height=self.grid.height,
                    resampling=Resampling.bilinear if self.palette is None else Resampling.nearest,
                    add_alpha=self.alpha == self.raster.count + 1,
                    src_nodata=nodata,
                    nodata=nodata,
                    UNIFIED_SRC_NODATA="YES" if unified else "NO",
                )
                for nodata in views
            ]

    def read(
        self, window: Window, shape: tuple[int, int] | None = None
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Stored values (bands, H, W) of a window, and where they are valid (H, W).

        Args:
            window: Columns and rows of the grid.
            shape: The height and width to reduce the window to; those of the window by default.

        Raises:
            SceneError: If a block cannot be decoded.
        """
        left, top = self.corner or (0, 0)
        window = Window(window.col_off + left, window.row_off + top, window.width, window.height)
        shape = shape or (window.height, window.width)
        values, valid = self._ask(window, shape)
        if self.palette is not None:
            colours = self.palette[values[0]]
            valid &= colours[..., 3] > 0
            values = colours[..., :3].transpose(2, 0, 1)
        return values if valid.all() else np.where(valid, values, 0), valid

    @cached_property
    def overview(self) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """A decimated read of the whole grid, up to ``OVERVIEW_SIDE`` long; see ``read``."""
        height, width = self.grid.height, self.grid.width
        factor = max(1.0, max(width, height) / OVERVIEW_SIDE)
        rows, columns = reduce_shape((height, width), OVERVIEW_SIDE)
        # Read in slabs: GDAL reads band after band, and would read the whole file for each band.
        step = max(1, round(SLAB_ROWS / factor))
        parts = []
        for first in range(0, rows, step):
            last = min(first + step, rows)
            top, bottom = (round(edge * height / rows) for edge in (first, last))
            parts.append(self.read(Window(0, top, width, bottom - top), (last - first, columns)))
        values = np.concatenate([part[0] for part in parts], axis=1)
        valid = np.concatenate([part[1] for part in parts])
        if not valid.any():
            raise SceneError(f"{self.raster.name}: has no valid pixel where the dates overlap")
        return values, valid

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _ask(
        self, window: Window, shape: tuple[int, int]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        what = f"{self.raster.name}: a block cannot be read"

        def act() -> tuple[NDArray[Any], NDArray[np.bool_]]:
            with raster_errors(what):
                values = self._stored(window, shape)
                return values, self._valid(values, window, shape)

        return read_patiently(act, what, lambda: self.raster.files, self._open_again)

    def _open_again(self) -> None:
        """Opens the raster anew.

        While a raster is open, GDAL keeps what a server sent in part, and reads zeros from the
        sources of a mosaic that once failed to open.
        """
        self._close()
        self.raster.close()
        self.raster = self.own_raster = open_raster(self.raster.name)
        self.views = self._make_views()

    def _close(self) -> None:
        if not self.corner:
            for view in self.views:
                view.close()
        if self.own_raster is not None:
            self.own_raster.close()

    def _stored(self, window: Window, shape: tuple[int, int]) -> NDArray[Any]:
        if len(self.views) == 1:
            whole = (len(self.bands), *shape)
            return self.views[0].read(self.bands, window=window, out_shape=whole)
        pairs = zip(self.views, self.bands, strict=True)
        return np.stack([view.read(band, window=window, out_shape=shape) for view, band in pairs])

    def _valid(
        self, values: NDArray[Any], window: Window, shape: tuple[int, int]
    ) -> NDArray[np.bool_]:
        views = self.views * (len(self.bands) // len(self.views))
        join = np.logical_or if self.together else np.logical_and
        valid = np.ones(shape, bool)
        if not self.solid:
            masks = [
                view.read_masks(band, window=window, out_shape=shape) > 0
                for view, band in zip(views, self.bands, strict=True)
            ]
            valid &= join.reduce(masks)
        if self.alpha is not None:
            valid &= self.views[0].read(self.alpha, window=window, out_shape=shape) > 0
        named = [
            band != nodata
            for band, nodata, unheeded in zip(values, self.nodata, self.unheeded, strict=True)
            if unheeded and nodata is not None
        ]
        if named:
            valid &= join.reduce(named)
        if np.issubdtype(values.dtype, np.floating):
            valid &= np.isfinite(values).all(axis=0)
        return valid


def reduce_shape(shape: tuple[int, int], most: int) -> tuple[int, int]:
    """A height and a width, reduced by one factor so that neither is larger than ``most``."""
    factor = max(1.0, max(shape) / most)
    height, width = (max(1, round(length / factor)) for length in shape)
    return height, width


def _check_nodata(raster: DatasetReader, bands: Sequence[int], nodata: float | None) -> None:
    untagged = (band for band in bands if raster.nodatavals[band - 1] is None)
    for kind in {raster.dtypes[band - 1] for band in untagged}:
        if nodata is None or np.issubdtype(kind, np.floating):
            continue
        limits = np.iinfo(kind)
        if not (limits.min <= nodata <= limits.max and nodata == int(nodata)):
            raise SceneError(
                f"{raster.name}: `nodata` {nodata:g} is no value of its type {kind}, which holds "
                f"whole numbers from {limits.min} to {limits.max}"
            )


def _find_alpha(raster: DatasetReader) -> int | None:
    kinds = raster.colorinterp
    return kinds.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in kinds else None


def _corner_on(raster: DatasetReader, grid: Grid) -> tuple[int, int] | None:
    """Column and row of the grid's corner in a raster whose pixels it shares, else ``None``."""
    raster_transform = raster.transform
    if raster.crs != grid.crs or not raster_transform.almost_equals(
        grid.transform
        @ Affine.translation(*(~grid.transform @ (raster_transform.c, raster_transform.f))),
        1e-12,
    ):
        return None
    column, row = ~raster_transform @ (grid.transform.c, grid.transform.f)
    left, top = round(column), round(row)
    inside = 0 <= left <= raster.width - grid.width and 0 <= top <= raster.height - grid.height
    exact = max(abs(column - left), abs(row - top)) < SNAP
    return (left, top) if inside and exact else None

"""Predicts scenes in ``xarray.DataArray``; lazily where an array is dask-backed."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from itertools import product
from typing import TYPE_CHECKING, Any

import dask
import dask.array
import numpy as np
import odc.geo.xr  # noqa: F401  (gives DataArrays their .odc)
import rioxarray  # noqa: F401  (gives DataArrays their .rio)
import xarray
from numpy.typing import NDArray

from ctma.data.scaling import Scaling, percentile_scaling, unit_scaling
from ctma.errors import SceneError
from ctma.inference.look import Look
from ctma.inference.ready import any_predictor
from ctma.inference.resolution import check_given_distance, find_enlargement
from ctma.models.usage import Usage
from ctma.scene.blending import Axis, Tiling, add_window, axis
from ctma.scene.grid import Grid, measure_distance
from ctma.scene.plan import Images
from ctma.scene.settings import SceneSettings
from ctma.scene.source import OVERVIEW_SIDE
from ctma.scene.windows import look_at
from ctma.types import IMAGE_BANDS

if TYPE_CHECKING:
    from ctma.inference.predictor import Model


def predict_xarray(
    before: xarray.DataArray,
    after: xarray.DataArray,
    model: Model,
    *,
    bands: tuple[int, ...] | tuple[tuple[int, ...], tuple[int, ...]] | None = None,
    scale: tuple[float, float] | None = None,
    tiling: Tiling | None = None,
    ground_sample_distance: float | None = None,
    nodata_any: bool = False,
) -> xarray.DataArray:
    """The change probability of two georeferenced arrays, on the grid of the first.

    Windows and blending are those of ``ctma.predict_scene``. Ranges of values come from the whole
    of each array; there, from the ground that both dates share. As there, the network sees the
    arrays north up. The result is lazy where one of the arrays is dask-backed. Without
    ``scale``, percentiles of values that were not stored in 8 bits are computed at once.

    Args:
        before: (band, y, x) with a CRS, as from ``rioxarray.open_rasterio``.
        after: (band, y, x) with a CRS; warped where its grid differs from that of ``before``.
        model: A predictor, as from ``ctma.load``, a network in memory, or a checkpoint by name or
            path.
        bands: Band numbers from 1, for both arrays or for each; by default the bands named red,
            green and blue, else the first ones.
        scale: Stored values that become 0 and 1; estimated for each date by default.
        tiling: How windows lie, in pixels that the network sees.
        ground_sample_distance: Metres per pixel; by default the distance of the first array.
        nodata_any: Whether also in 8-bit colours one band with its nodata value makes a hole.

    Returns:
        (y, x) float32 in [0, 1], NaN where a date has no data; ``attrs`` hold ``threshold`` and
        ``enlargement``.

    Raises:
        SceneError: If the arrays cannot be compared.
        SettingError: If the scale is out of order, or the distance out of range.
    """
    settings = SceneSettings(bands=bands, scale=scale, tiling=tiling, nodata_any=nodata_any)
    predictor = any_predictor(model)
    usage = predictor.usage
    check_given_distance(usage, ground_sample_distance)
    _check_arrays(before, after)
    flipped = _flipped(before)
    before = _north_up(_choose(before, settings.bands_by_date[0], usage, "before"))
    after = _north_up(_choose(after, settings.bands_by_date[1], usage, "after"))
    lazy = any(dask.is_dask_collection(date) for date in (before, after))
    images = [
        _scaled(date, before, settings, usage, number)
        for number, date in enumerate((before, after))
    ]
    ratio = find_enlargement(usage, ground_sample_distance or _measure(before))
    coordinates = [name for name in (*before.dims[1:], "spatial_ref") if name in before.coords]
    with predictor.look(ratio, predictor.threads) as look:
        # Copy the network: it may change before dask computes the result.
        blended = _blend(images, deepcopy(look), settings.tiling_at(ratio), predictor.stride)
    probability = xarray.DataArray(
        blended,
        dims=before.dims[1:],
        coords={name: before.coords[name] for name in coordinates},
        name="probability",
        attrs={"threshold": usage.threshold, "enlargement": ratio},
    )
    placed = probability.rio.write_crs(before.rio.crs)
    return _turn(placed if lazy else placed.compute(), flipped)


def _check_arrays(*dates: object) -> None:
    for date in dates:
        if not isinstance(date, xarray.DataArray):
            raise SceneError(
                f"a {type(date).__name__}, expected a DataArray as from rioxarray.open_rasterio"
            )


def _flipped(date: xarray.DataArray) -> list[str]:
    """Directions in which an array runs from south to north, or from east to west."""
    y, x = date.dims[-2:]
    placed = [name for name in (y, x) if name in date.coords and len(date[name]) > 1]
    rises = {name: bool(date[name][0] < date[name][-1]) for name in placed}
    return [str(name) for name, wrong in ((y, True), (x, False)) if rises.get(name) == wrong]


def _north_up(date: xarray.DataArray) -> xarray.DataArray:
    return _turn(date, _flipped(date))


def _turn(date: xarray.DataArray, directions: list[str]) -> xarray.DataArray:
    return date.isel({name: slice(None, None, -1) for name in directions})


def _scaled(
    date: xarray.DataArray,
    like: xarray.DataArray,
    settings: SceneSettings,
    usage: Usage,
    number: int,
) -> Any:
    """One date on the grid of another array, its values from 0 to 1, NaN where it has holes."""
    holes_as_nan = _holes_as_nan(date, settings.nodata_any)
    scaling = _scaling(date, holes_as_nan, settings.scale, usage, number)
    image = _on_grid(holes_as_nan, like).chunk({date.dims[0]: -1})
    low, high = (np.array(ends, np.float32)[:, None, None] for ends in (scaling.low, scaling.high))
    return ((image - low) / (high - low)).clip(0, 1).data


def _choose(
    date: xarray.DataArray, wanted: tuple[int, ...] | None, usage: Usage, name: str
) -> xarray.DataArray:
    """The bands that the network takes from a georeferenced array."""
    if date.ndim != 3 or date.dims[1:] != (date.rio.y_dim, date.rio.x_dim):
        raise SceneError(f"{name}: has dimensions {date.dims}, expected (band, y, x)")
    if date.rio.crs is None:
        raise SceneError(f"{name}: has no CRS, so its place is not known; see .rio.write_crs")
    takes, count = len(usage.bands), date.sizes[date.dims[0]]
    if wanted is None:
        grey = count == 1 and usage.bands == IMAGE_BANDS
        first = (1,) * takes if grey else tuple(range(1, takes + 1))
        wanted = _find_named(date, usage.bands) or first
    if len(wanted) == takes and max(wanted) > count > max(takes - 1, 0):
        raise SceneError(f"{name}: no band {max(wanted)}, it has 1 to {count}")
    if len(wanted) != takes or max(wanted) > count:
        names = ", ".join(usage.bands)
        raise SceneError(f"{name}: has {count} bands, the network takes {takes}: {names}")
    return date.isel({date.dims[0]: [number - 1 for number in wanted]})


def _find_named(date: xarray.DataArray, wanted: Sequence[str]) -> tuple[int, ...] | None:
    """Numbers of the bands that carry these names, ``None`` unless each name stands once.

    Names are those of the coordinate of bands, as odc-stac gives them, or the descriptions of a
    raster's bands, which rioxarray keeps as ``long_name``.
    """
    dimension = date.dims[0]
    coordinate = date.coords[dimension].values.tolist() if dimension in date.coords else []
    for names in (coordinate, date.attrs.get("long_name", ())):
        lower = [str(name).lower() for name in names] if not isinstance(names, str) else [names]
        if all(lower.count(name) == 1 for name in wanted):
            return tuple(lower.index(name) + 1 for name in wanted)
    return None


def _holes_as_nan(date: xarray.DataArray, nodata_any: bool) -> xarray.DataArray:
    values = date.astype(np.float32)
    masked = date.rio.encoded_nodata
    nodata = date.rio.nodata if masked is None else masked
    if nodata is None:
        return values
    holes = date.isnull() if masked is not None else date == nodata
    if _stored_type(date) == np.uint8 and not nodata_any:
        return values.where(~holes, nodata).where(~holes.all([date.dims[0]]))
    return values.where(~holes)


def _on_grid(date: xarray.DataArray, like: xarray.DataArray) -> xarray.DataArray:
    if date.odc.geobox == like.odc.geobox:
        return date
    if date.odc.geobox.extent.to_crs(like.rio.crs).disjoint(like.odc.geobox.extent):
        raise SceneError("before and after do not overlap")
    return date.odc.reproject(like.odc.geobox, resampling="bilinear", dst_nodata=np.nan)


def _measure(date: xarray.DataArray) -> float | None:
    box = date.odc.geobox
    return None if box is None else measure_distance(Grid(date.rio.crs, box.affine, *box.shape.xy))


def _scaling(
    date: xarray.DataArray,
    holes_as_nan: xarray.DataArray,
    scale: tuple[float, float] | None,
    usage: Usage,
    number: int,
) -> Scaling:
    bands = date.shape[0]
    if scale is not None:
        return Scaling((scale[0],) * bands, (scale[1],) * bands)
    stored = _stored_type(date)
    if stored == np.uint8:
        return unit_scaling(bands, usage.scaling)
    if usage.ranges is not None:
        return Scaling.of(usage.ranges[number])
    step = max(1, max(date.shape[1:]) // OVERVIEW_SIDE)
    sample = holes_as_nan[:, ::step, ::step].compute().to_numpy()
    valid = np.isfinite(sample).all(axis=0)
    if not valid.any():
        raise SceneError("a date has no valid pixel")
    return percentile_scaling(sample[:, valid].astype(stored))


def _stored_type(date: xarray.DataArray) -> np.dtype:
    """The type of the values in the file, even where masking has converted them to floats."""
    encoding = date.encoding
    if encoding.get("scale_factor", 1) != 1 or encoding.get("add_offset", 0) != 0:
        return date.dtype
    return np.dtype(encoding.get("rasterio_dtype", encoding.get("dtype", date.dtype)))


def _blend(images: list[Any], look: Look, tiling: Tiling, stride: int) -> Any:
    """A lazy (H, W) array whose chunks are blended from the windows that reach them."""
    height, width = images[0].shape[1:]
    rows, columns = (axis(length, tiling, stride) for length in (height, width))
    shared = dask.delayed(look, pure=False, traverse=False)
    windows = {
        (i, j): dask.delayed(_look)(
            shared, *(image[:, *_area(rows, i), *_area(columns, j)] for image in images)
        )
        for i, j in product(range(len(rows.origins)), range(len(columns.origins)))
    }
    cells = [
        [
            dask.array.from_delayed(
                dask.delayed(_cell)(
                    top, left,
                    [
                        (windows[i, j], rows.origins[i], columns.origins[j],
                         rows.weights[i], columns.weights[j])
                        for i, j in product(_reaching(rows, *top), _reaching(columns, *left))
                    ],
                ),
                (top[1] - top[0], left[1] - left[0]),
                np.float32,
            )
            for left in _cells(columns)
        ]
        for top in _cells(rows)
    ]  # fmt: skip
    return dask.array.block(cells)


def _look(look: Look, before: NDArray[Any], after: NDArray[Any]) -> NDArray[np.float32]:
    valid = np.isfinite(before).all(axis=0) & np.isfinite(after).all(axis=0)
    before, after = (np.where(valid, image, 0).astype(np.float32) for image in (before, after))
    return look_at(look, Images(before, after, valid))


def _cell(
    rows: tuple[int, int], columns: tuple[int, int], windows: list[tuple[Any, ...]]
) -> NDArray[np.float32]:
    """The part of the scene between two rows and two columns."""
    (top, bottom), (left, right) = rows, columns
    total = np.zeros((bottom - top, right - left), np.float32)
    valid = np.zeros(total.shape, bool)
    for window, row, column, *weights in windows:
        add_window(total, valid, window, (row - top, column - left), (weights[0], weights[1]))
    total[~valid] = np.nan
    return total


def _area(along: Axis, window: int) -> tuple[slice]:
    return (slice(along.origins[window], along.origins[window] + along.side),)


def _cells(along: Axis) -> list[tuple[int, int]]:
    """Start and end of the pixels that each window finishes, without empty ranges."""
    ends = [along.finished(window) for window in range(len(along.origins))]
    return [(start, end) for start, end in zip([0, *ends], ends, strict=False) if start < end]


def _reaching(along: Axis, start: int, end: int) -> list[int]:
    return [
        window
        for window, origin in enumerate(along.origins)
        if origin < end and origin + along.side > start
    ]

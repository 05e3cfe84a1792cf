"""The plan of a run over a scene, made before the run starts."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from ctma.data.scaling import Scaling
from ctma.errors import SceneError
from ctma.inference.resolution import find_enlargement
from ctma.models.usage import Usage
from ctma.scene.bands import choose_bands
from ctma.scene.blending import Axis, Tiling, axis
from ctma.scene.grid import Grid, Overlap, common_grid, measure_distance, metres_a_unit
from ctma.scene.rasters import open_raster, raster_errors
from ctma.scene.registration import Shift, estimate_shift
from ctma.scene.scaling import find_disparity, find_scaling
from ctma.scene.settings import SceneSettings
from ctma.scene.source import Source
from ctma.types import Pixels

WindowIndex = tuple[int, int]
"""A window: its number from the top, and its number from the left."""


class Images(NamedTuple):
    """The images of a window that a network sees.

    Attributes:
        before: (bands, H, W) in [0, 1], 0 where either date has no data.
        after: (bands, H, W), as ``before``.
        valid: (H, W), true where both dates have data.
    """

    before: NDArray[np.float32]
    after: NDArray[np.float32]
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class Date:
    """How one date is read.

    Attributes:
        path: A raster: a file, a URL of a COG, or a ``/vsi…`` path.
        bands: Band numbers, from 1.
        grid: The grid to read the date on; for a moved date, slightly off the scene's grid.
        scaling: The scaling of the values, the same over the whole scene.
    """

    path: str
    bands: tuple[int, ...]
    grid: Grid
    scaling: Scaling


@dataclass(frozen=True)
class Plan:
    """A run over a scene; small and plain, so that it can travel to other machines.

    Attributes:
        before: The date before; its grid is the scene's.
        after: The date after.
        tiling: How windows lie.
        enlargement: Ratio by which windows are enlarged for the network.
        threshold: Probability above which a pixel counts as change.
        stride: Stride of the network's coarsest features, in pixels. Sides of windows are
            multiples of the stride.
        nodata: The stored value that means no data, in bands without a nodata value of their own.
        nodata_any: Whether also in 8-bit colours one band with its nodata value makes a hole.
    """

    before: Date
    after: Date
    tiling: Tiling
    enlargement: float
    threshold: float
    stride: int
    nodata: float | None = None
    nodata_any: bool = False

    @property
    def grid(self) -> Grid:
        """The scene's grid."""
        return self.before.grid

    @property
    def rows(self) -> Axis:
        """Windows from top to bottom."""
        return axis(self.grid.height, self.tiling, self.stride)

    @property
    def columns(self) -> Axis:
        """Windows from left to right."""
        return axis(self.grid.width, self.tiling, self.stride)


@dataclass(frozen=True)
class Findings:
    """The facts about two rasters that ``make_plan`` found.

    Attributes:
        overlap: The common grid of the rasters.
        shift: How far the date after lies from the date before, ``None`` if no shift stands out.
        ground_sample_distance: Metres per pixel, from the settings or from the common grid.
        disparity: How many times the range of one date is that of the other; ``None`` where ranges
            were not estimated, or the dates are stored in different types.
        clipped: The largest share, of the two dates, of values outside the given ``scale``.
        pictures: Both dates as the network sees them, reduced, (h, w, 3): the first three bands,
            or the first band three times where there are fewer.
        seconds: Seconds that the plan took.
    """

    overlap: Overlap
    shift: Shift | None
    ground_sample_distance: float | None
    disparity: float | None
    clipped: float
    pictures: tuple[Pixels, Pixels]
    seconds: float


def make_plan(
    before: str, after: str, usage: Usage, stride: int, settings: SceneSettings
) -> tuple[Plan, Findings]:
    """Settles grid, bands, shift and scaling of two rasters.

    Args:
        before: A raster: a file, a URL of a COG, or a ``/vsi…`` path.
        after: A raster, as ``before``.
        usage: How the network that will see the rasters takes images.
        stride: Stride of the network's coarsest features, in pixels.
        settings: The settings of the scene.

    Raises:
        SceneError: If the rasters cannot be compared or read.
    """
    start = time.monotonic()
    paths = (before, after)
    with ExitStack() as stack:
        rasters = [stack.enter_context(open_raster(path)) for path in paths]
        with raster_errors(f"{before} and {after}: cannot be brought onto one grid"):
            overlap = common_grid(rasters[0], rasters[1], settings.grid)
            _check_place(before, overlap.grid, settings.polygon_format)
            distance = settings.ground_sample_distance or measure_distance(overlap.grid)
        chosen = [
            choose_bands(raster, selection, usage.bands)
            for raster, selection in zip(rasters, settings.bands_by_date, strict=True)
        ]
        grids = [overlap.grid, overlap.grid.turned(overlap.turn)]
        holes = settings.nodata, settings.nodata_any
        sources = [
            stack.enter_context(Source(*parts, *holes))
            for parts in zip(rasters, grids, chosen, strict=True)
        ]
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(lambda source: source.overview, sources))
        shift = estimate_shift(*sources)
        if settings.coregister:
            moved = _take_out(shift, sources[1], chosen[1], holes, f"{before} and {after}")
            sources[1] = stack.enter_context(moved)
            grids[1] = moved.grid
        scalings = _scalings(sources, settings.scale, usage)
        clipped = max(_clipped_share(source, settings.scale) for source in sources)
        disparity = _disparity(sources, scalings, settings.scale is None and usage.ranges is None)
        pictures = (
            to_picture(*sources[0].overview, scalings[0]),
            to_picture(*sources[1].overview, scalings[1]),
        )
    first, second = (
        Date(path, tuple(numbers), grid, scaling)
        for path, numbers, grid, scaling in zip(paths, chosen, grids, scalings, strict=True)
    )
    ratio = find_enlargement(usage, distance)
    plan = Plan(
        first,
        second,
        settings.tiling_at(ratio),
        ratio,
        usage.threshold if settings.threshold is None else settings.threshold,
        stride,
        *holes,
    )
    return plan, Findings(
        overlap, shift, distance, disparity, clipped, pictures, time.monotonic() - start
    )


def _take_out(
    shift: Shift | None,
    source: Source,
    bands: list[int],
    holes: tuple[float | None, bool],
    pair: str,
) -> Source:
    """The date after, read where the shift is taken out."""
    if shift is None:
        raise SceneError(
            f"{pair}: no shift between them stands out in most of the scene, so `coregister` has "
            "none to take out; leave it out, or register them first"
        )
    return Source(source.raster, source.grid.moved(*shift), bands, *holes)


def _check_place(path: str, grid: Grid, polygon_format: str) -> None:
    if polygon_format == "geojson" and metres_a_unit(grid.crs) is not None:
        raise SceneError(
            f"{path}: its CRS is tied to no place on Earth, and GeoJSON knows no other; "
            "write another `polygon_format`, such as gpkg"
        )


def _disparity(sources: list[Source], scalings: list[Scaling], estimated: bool) -> float | None:
    stored = {source.overview[0].dtype for source in sources}
    alike = len(stored) == 1 and estimated
    return find_disparity(*scalings) if alike else None


def _clipped_share(source: Source, scale: tuple[float, float] | None) -> float:
    if scale is None:
        return 0.0
    values, valid = source.overview
    seen = values[:, valid]
    return float(((seen < scale[0]) | (seen > scale[1])).mean())


def to_picture(values: NDArray[Any], valid: NDArray[np.bool_], scaling: Scaling) -> Pixels:
    """A picture (H, W, 3) of stored values (bands, H, W); pixels without data are black."""
    scaled = scaling.apply(values) * valid
    bands = scaled[:3] if len(scaled) >= 3 else scaled[:1].repeat(3, axis=0)
    return (255 * bands).astype(np.uint8).transpose(1, 2, 0)


class Reader:
    """Reads windows of both dates of a plan.

    Args:
        plan: The plan.

    Raises:
        SceneError: If a raster cannot be opened.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        self.rows, self.columns = plan.rows, plan.columns
        with ExitStack() as stack:
            self.sources = [
                stack.enter_context(
                    Source(
                        # As its own context, a raster takes down the settings of GDAL of the
                        # thread that closes it: after Ctrl-C that is another than opened it.
                        stack.enter_context(closing(open_raster(date.path))),
                        date.grid,
                        date.bands,
                        plan.nodata,
                        plan.nodata_any,
                    )
                )
                for date in (plan.before, plan.after)
            ]
            self.thread = stack.enter_context(ThreadPoolExecutor(1))
            self.files = stack.pop_all()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.files.close()

    def read(self, index: WindowIndex) -> Images:
        """The images of a window, see ``read_window``."""
        i, j = index
        return self.read_window(
            Window(self.columns.origins[j], self.rows.origins[i], self.columns.side, self.rows.side)
        )

    def read_window(self, window: Window) -> Images:
        """The images at a place of the grid.

        Raises:
            SceneError: If a block cannot be decoded.
        """
        after = self.thread.submit(_scaled, self.sources[1], self.plan.after.scaling, window)
        image, valid = _scaled(self.sources[0], self.plan.before.scaling, window)
        other, good = after.result()
        both = valid & good
        if not both.all():
            # A hole in only one date would look like change.
            image, other = image * both, other * both
        return Images(image, other, both)


def _scaled(
    source: Source, scaling: Scaling, window: Window
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The scaled values of one date in a window, and where the date has data."""
    values, valid = source.read(window)
    return scaling.apply(values), valid


def _scalings(
    sources: list[Source], scale: tuple[float, float] | None, usage: Usage
) -> list[Scaling]:
    """The scaling of each date: the given one, or that of ``find_scaling``."""
    if scale is None:
        return [find_scaling(source, usage, date) for date, source in enumerate(sources)]
    return [Scaling(*((value,) * len(source.bands) for value in scale)) for source in sources]

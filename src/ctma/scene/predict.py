"""From two rasters to a change map: windows, blending, GeoTIFFs, polygons, summary."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import rasterio.shutil
import torch
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from ctma.devices import autocast
from ctma.errors import OutputError, SettingError, UnknownNameError
from ctma.evaluation.protocols import whole
from ctma.files import file_fingerprint, scratch_file, whole_file, write_json
from ctma.models import ChangeNetwork
from ctma.scene.blending import Axis, Tiling, axis
from ctma.scene.grid import Grid, common_grid
from ctma.scene.polygons import Change, GroundArea, Tracer
from ctma.scene.registration import NOTABLE, estimate_shift
from ctma.scene.source import Scaling, Source, choose_bands, estimate_scaling, open_raster

STEPS = 250
"""``probability.tif`` stores 0 to 250 for 0 to 1."""

NO_DATA = 255
BLOCK = 512
SUFFIXES = {"gpkg": ".gpkg", "geojson": ".geojson", "fgb": ".fgb", "parquet": ".parquet"}

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SceneResult:
    """What a prediction over a scene leaves behind.

    Attributes:
        probability: Change probability, 0 to 250, nodata 255, a COG.
        mask: 1 where it exceeds the threshold, nodata 255, a COG.
        changes: One polygon a change.
        summary: The same as ``summary.json``.
    """

    probability: Path
    mask: Path
    changes: Path
    summary: dict[str, Any]


def predict_scene(
    before: str | Path,
    after: str | Path,
    model: ChangeNetwork,
    output: str | Path,
    *,
    bands: Sequence[int] | None = None,
    scale: tuple[float, float] | None = None,
    grid: str = "before",
    threshold: float | None = None,
    min_area: float = 0.0,
    simplify: float = 0.0,
    polygon_format: str = "gpkg",
    tiling: Tiling | None = None,
    coregister: bool = False,
    precision: str = "32-true",
    on_progress: Progress = lambda done, total: None,
    on_warning: Callable[[str], None] = lambda line: None,
) -> SceneResult:
    """Finds what changed between two georeferenced rasters.

    Both are warped on the fly onto one grid over their intersection, scaled by one scaling
    a date, seen in overlapping windows, and blended by weights that sum to one.

    Args:
        before: A raster: a file, a URL of a COG, or a ``/vsi…`` path.
        after: A raster that overlaps it, in any CRS and resolution.
        model: A network, as from ``load_model``; it runs on the device it is on.
        output: A folder; gets ``probability.tif``, ``mask.tif``, ``changes.*`` and
            ``summary.json``.
        bands: Band numbers from 1, for both dates; the first ones by default.
        scale: Stored values that become 0 and 1; found for each date by default.
        grid: Whose pixels are kept: ``before``, ``after`` or ``finest``.
        threshold: Change is where the probability exceeds it; the checkpoint's by default.
        min_area: Square metres below which a change is no polygon.
        simplify: Pixels by which polygons may be simplified.
        polygon_format: ``gpkg``, ``geojson``, ``fgb`` or ``parquet``.
        tiling: How windows lie.
        coregister: Take out the shift between the dates.
        precision: ``"32-true"`` or ``"bf16-mixed"``.
        on_progress: Called after every window with how many are done, and of how many.
        on_warning: Called with a line where the dates are shifted by more than a pixel.

    Raises:
        SceneError: If the rasters cannot be compared or read.
        SettingError: If a setting is out of range.
        OutputError: If the folder cannot be written.
    """
    if polygon_format not in SUFFIXES:
        raise UnknownNameError("polygon format", polygon_format, SUFFIXES)
    if scale is not None and not scale[0] < scale[1]:
        raise SettingError(f"--scale {scale[0]},{scale[1]}: the first must be below the second")
    start = time.monotonic()
    output = Path(output)
    with ExitStack() as stack:
        rasters = [stack.enter_context(open_raster(str(path))) for path in (before, after)]
        overlap = common_grid(rasters[0], rasters[1], grid)
        chosen = [choose_bands(raster, bands, model.bands) for raster in rasters]
        sources = [
            stack.enter_context(Source(raster, overlap.grid, numbers))
            for raster, numbers in zip(rasters, chosen, strict=True)
        ]
        shift = estimate_shift(*sources)
        if coregister:
            moved = overlap.grid.moved(*shift)
            sources[1] = stack.enter_context(Source(rasters[1], moved, chosen[1]))
        elif shift.length > NOTABLE:
            on_warning(
                f"the dates are shifted by {shift.length:.1f} pixels "
                f"({shift.columns:+.1f} columns, {shift.rows:+.1f} rows); add --coregister"
            )
        full_scale = model.header.scaling if model.header else 255.0
        scalings = [_scaling(source, scale, full_scale) for source in sources]
        if threshold is None:
            threshold = model.header.threshold if model.header else 0.5

        strips = _blend(model, sources, scalings, tiling or Tiling(), precision, on_progress)
        writer = _Writer(output, overlap.grid, threshold, min_area, simplify)
        counts = writer.write(strips, polygon_format)

    summary = {
        "before": _input_summary(before, scalings[0], overlap.outside_before),
        "after": _input_summary(after, scalings[1], overlap.outside_after),
        "grid": _grid_summary(overlap.grid),
        "shift_pixels": {"columns": round(shift.columns, 2), "rows": round(shift.rows, 2)},
        "coregistered": coregister,
        "threshold": threshold,
        **counts,
        "seconds": round(time.monotonic() - start, 2),
        "versions": _versions(),
    }
    write_json(output / "summary.json", summary)
    return SceneResult(
        output / "probability.tif",
        output / "mask.tif",
        output / f"changes{SUFFIXES[polygon_format]}",
        summary,
    )


def is_scene(path: str | Path) -> bool:
    """Whether a path is a raster with a CRS."""
    if Path(path).is_dir():
        return False
    try:
        # A TIFF without a CRS is an answer here, not a reason to warn.
        with (
            warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
            rasterio.open(path) as raster,
        ):
            return raster.crs is not None
    except RasterioError:
        return False


Strip = tuple[NDArray[np.float32], NDArray[np.bool_]]


def _blend(
    model: ChangeNetwork,
    sources: Sequence[Source],
    scalings: Sequence[Scaling],
    tiling: Tiling,
    precision: str,
    on_progress: Progress,
) -> Iterator[Strip]:
    """Strips of blended probability and validity, from top to bottom.

    Only the rows that windows still reach are kept in memory. The next window is read
    while the network looks at the present one.
    """
    warped = sources[0].warped
    rows, columns = axis(warped.height, tiling), axis(warped.width, tiling)
    places = [(i, j) for i in range(len(rows.origins)) for j in range(len(columns.origins))]
    device = next(model.parameters()).device
    total = np.zeros((rows.side, warped.width))
    valid = np.zeros((rows.side, warped.width), bool)
    written = 0

    def read(place: tuple[int, int]) -> list[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        window = _window(rows, columns, *place)
        parts = (source.read(window) for source in sources)
        return [
            (scaling.apply(values) * good, good)
            for scaling, (values, good) in zip(scalings, parts, strict=True)
        ]

    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(read, places[0])
        for done, (i, j) in enumerate(places, start=1):
            images = ahead.result()
            if done < len(places):
                ahead = reader.submit(read, places[done])
            both = images[0][1] & images[1][1]
            left = columns.origins[j]
            area = slice(left, left + columns.side)
            valid[:, area] |= both
            if both.any():
                inputs = (torch.from_numpy(image)[None].to(device) for image, _ in images)
                with autocast(device, precision):
                    probability = whole(model, *inputs)[0, 0].cpu().numpy()
                weights = np.outer(rows.weights[i], columns.weights[j])
                total[:, area] += weights * probability
            on_progress(done, len(places))
            if j + 1 == len(columns.origins):
                top, end = rows.origins[i], rows.finished(i)
                ready = slice(written - top, end - top)
                yield total[ready].astype(np.float32), valid[ready].copy()
                written = end
                if done < len(places):
                    step = rows.origins[i + 1] - top
                    total, valid = _moved_up(total, step), _moved_up(valid, step)


def _window(rows: Axis, columns: Axis, i: int, j: int) -> Window:
    return Window(columns.origins[j], rows.origins[i], columns.side, rows.side)


def _moved_up(buffer: NDArray, rows: int) -> NDArray:
    moved = np.zeros_like(buffer)
    moved[: len(buffer) - rows] = buffer[rows:]
    return moved


class _Writer:
    """Writes strips as rasters and polygons that appear under their names when whole."""

    def __init__(
        self, output: Path, grid: Grid, threshold: float, min_area: float, simplify: float
    ):
        self.output = output
        self.grid = grid
        self.threshold = threshold
        self.min_area = min_area
        self.tolerance = simplify * abs(grid.transform.a)
        self.ground_area = GroundArea(grid)
        self.records: list[dict[str, Any]] = []

    def write(self, strips: Iterator[Strip], polygon_format: str) -> dict[str, Any]:
        """Writes everything; gives changed area, share and number."""
        tracer = Tracer(self.grid)
        changed = seen = row = 0
        profile = {
            "driver": "GTiff", "dtype": "uint8", "count": 1, "nodata": NO_DATA, "tiled": True,
            "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate", "bigtiff": "if_safer",
            "crs": self.grid.crs, "transform": self.grid.transform,
            "width": self.grid.width, "height": self.grid.height,
        }  # fmt: skip
        with ExitStack() as stack:
            finals = [self.output / name for name in ("probability.tif", "mask.tif")]
            parts = [stack.enter_context(whole_file(path)) for path in finals]
            plains = [stack.enter_context(scratch_file(path)) for path in finals]
            try:
                with ExitStack() as files:
                    rasters = [
                        files.enter_context(rasterio.open(p, "w", **profile)) for p in plains
                    ]
                    rasters[0].scales = (1 / STEPS,)
                    for probability, valid in strips:
                        mask = ((probability > self.threshold) & valid).astype(np.uint8)
                        stored = np.rint(probability * STEPS).astype(np.uint8)
                        window = Window(0, row, self.grid.width, len(mask))
                        for raster, values in zip(rasters, (stored, mask), strict=True):
                            raster.write(
                                np.where(valid, values, np.uint8(NO_DATA)), 1, window=window
                            )
                        self._collect(tracer.add(mask, probability))
                        changed += int(mask.sum())
                        seen += int(valid.sum())
                        row += len(mask)
                self._collect(tracer.close())
                for plain, part, resampling in zip(plains, parts, ("average", "mode"), strict=True):
                    rasterio.shutil.copy(
                        plain,
                        part,
                        driver="COG",
                        compress="deflate",
                        overview_resampling=resampling,
                    )
            except RasterioError as error:
                raise OutputError(f"cannot write {self.output}: {error}") from error
            self._save_polygons(polygon_format)
        return {
            "valid_pixels": seen,
            "changed_pixels": changed,
            "changed_share": changed / seen if seen else 0.0,
            "changes": len(self.records),
            "changed_area_m2": round(sum(record["area_m2"] for record in self.records), 2),
        }

    def _collect(self, changes: Iterator[Change]) -> None:
        for change in changes:
            geometry = change.geometry
            area = self.ground_area(geometry)
            if area < self.min_area:
                continue
            if self.tolerance:
                geometry = geometry.simplify(self.tolerance)
            self.records.append(
                {
                    "area_m2": round(area, 2),
                    "mean_probability": round(change.total / change.pixels, 4),
                    "max_probability": round(change.highest, 4),
                    "geometry": geometry,
                }
            )

    def _save_polygons(self, polygon_format: str) -> None:
        columns = ["id", "area_m2", "mean_probability", "max_probability", "geometry"]
        records = [{"id": number, **record} for number, record in enumerate(self.records, 1)]
        frame = geopandas.GeoDataFrame(
            records, columns=columns, geometry="geometry", crs=self.grid.crs.to_wkt()
        )
        with whole_file(self.output / f"changes{SUFFIXES[polygon_format]}") as part:
            part.unlink()
            if polygon_format == "parquet":
                frame.to_parquet(part)
            else:
                frame.to_file(part, layer="changes", engine="pyogrio")


def _scaling(source: Source, scale: tuple[float, float] | None, full_scale: float) -> Scaling:
    if scale is None:
        return estimate_scaling(source, full_scale)
    low, high = ((value,) * len(source.bands) for value in scale)
    return Scaling(low, high)


def _input_summary(path: str | Path, scaling: Scaling, outside: float) -> dict[str, Any]:
    return {
        "path": str(path),
        "fingerprint": file_fingerprint(path) if Path(path).is_file() else None,
        "outside_share": round(outside, 6),
        "scaling": {"low": scaling.low, "high": scaling.high},
    }


def _grid_summary(grid: Grid) -> dict[str, Any]:
    return {
        "crs": grid.crs.to_string(),
        "transform": list(grid.transform)[:6],
        "width": grid.width,
        "height": grid.height,
    }


def _versions() -> dict[str, str]:
    from ctma import __version__

    return {
        "ctma": __version__,
        "torch": torch.__version__,
        "rasterio": rasterio.__version__,
        "gdal": rasterio.__gdal_version__,
    }

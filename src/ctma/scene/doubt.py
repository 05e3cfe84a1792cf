"""Where not to believe a map: unlike ground, and probabilities near the threshold.

The scene is cut into cells. A patch in the middle of each cell is compared with what the checkpoint
knows of its training images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import scipy
from numpy.typing import NDArray
from rasterio.windows import Window

from ctma.errors import SettingError, warn
from ctma.inference.doubt import PATCH, Seen, describe_patches
from ctma.models.usage import Usage
from ctma.scene.cogs import write_plane
from ctma.scene.finished import FinishedMap
from ctma.scene.names import DOUBT
from ctma.scene.plan import Plan, Reader
from ctma.scene.settings import SceneSettings
from ctma.scene.strips import NO_DATA, STEPS, row_windows
from ctma.types import Plane

CELL = 4 * PATCH
"""Side of a cell, in pixels as the network sees them."""

FEW = 6
"""Cells a side that are looked at before a long run."""

LEAST_DATA = 0.5
"""Share of a patch that must have data."""

UNLIKE = 0.3
"""Doubt of wholly unlike ground whose probability is far from the threshold. With a larger value,
doubt would rank errors worse (docs/reports/trust.md)."""

BLURRED = (1.0, 2.0)
"""Distances between which ground turns from seen to wholly unlike. Narrower ones rank errors worse
(docs/reports/trust.md)."""


@dataclass(frozen=True)
class Cells:
    """How far each cell is from what was seen.

    Attributes:
        distance: (rows, columns); above 1 a cell counts as unlike; NaN without data.
    """

    distance: NDArray[np.float64]

    @property
    def known(self) -> NDArray[np.float64]:
        """Distances of the cells with data."""
        return self.distance[np.isfinite(self.distance)]

    @property
    def mostly(self) -> bool:
        """Whether the scene as a whole lies beyond what was seen."""
        return bool(self.known.size) and float(self.known.mean()) > 1

    @property
    def unlike(self) -> float:
        """Share of the cells with data that are unlike the training images."""
        return float((self.known > 1).mean()) if self.known.size else 0.0

    def over(self, window: Window, width: int, height: int) -> Plane:
        """How unlike the ground is in rows of the scene, in [0, 1]; see ``find_unlike``."""
        filled = np.where(np.isfinite(self.distance), self.distance, 0.0)
        rows = np.arange(window.row_off, window.row_off + window.height)
        down = _weigh(rows, height, len(filled))
        across = _weigh(np.arange(width), width, filled.shape[1])
        spread = (down @ filled.astype(np.float32)) @ across.T
        return find_unlike(spread)


def find_unlike(distance: NDArray[np.floating]) -> Plane:
    """From 0 for ground that was seen to 1 for ground that is far from what was seen."""
    first, last = BLURRED
    return np.asarray(np.clip((distance - first) / (last - first), 0, 1), np.float32)


def _weigh(places: NDArray[np.int64], length: int, cells: int) -> Plane:
    """For each pixel along an axis, the weights of the cells whose middles lie around the pixel."""
    at = np.clip((places + 0.5) * cells / length - 0.5, 0, cells - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(cells))).astype(np.float32)


def compare_scene(plan: Plan, usage: Usage, settings: SceneSettings) -> Cells | None:
    """Compares a scene with the training images; warns of a scene that is mostly unlike them.

    Without ``doubt``, a few cells are looked at for the warning, and none of rasters on a server.

    Returns:
        All cells with ``doubt``, else ``None``.
    """
    local = all(Path(date.path).is_file() for date in (plan.before, plan.after))
    if not settings.doubt and not (usage.seen and local):
        return None
    cells = _compare_cells(plan, _read_seen(usage), few=not settings.doubt)
    if cells.mostly:
        warn(
            f"the scene is unlike what the network was trained on ({cells.unlike:.0%} of it "
            "clearly); look at the map with care"
        )
    return cells if settings.doubt else None


def _read_seen(usage: Usage) -> Seen:
    """What a checkpoint knows of its training images.

    Raises:
        SettingError: If the checkpoint knows nothing of them.
    """
    if not usage.seen:
        raise SettingError(
            "`doubt`: the checkpoint does not know what its training images look like; ctma "
            "calibrate --seen adds that"
        )
    return Seen.read(usage.seen)


def _compare_cells(plan: Plan, seen: Seen, *, few: bool = False) -> Cells:
    """Compares the cells of a scene with the training images.

    Args:
        plan: The plan.
        seen: What the training images look like.
        few: Whether to look at a few cells alone, spread over the scene.

    Raises:
        SceneError: If a raster cannot be read.
        DataError: If the scene has other bands than the training images.
    """
    side = CELL / plan.enlargement
    rows, columns = (max(1, round(length / side)) for length in (plan.grid.height, plan.grid.width))
    if few:
        rows, columns = min(FEW, rows), min(FEW, columns)
    distance = np.full((rows, columns), np.nan)
    with Reader(plan) as reader:
        for row in range(rows):
            places = (_place(plan, (row, column), (rows, columns)) for column in range(columns))
            pairs = [
                (column, pair)
                for column, window in enumerate(places)
                if (pair := _look(reader, window))
            ]
            if pairs:
                numbers, patches = zip(*pairs, strict=True)
                both = [
                    seen.distance(describe_patches(np.stack(date)))
                    for date in zip(*patches, strict=True)
                ]
                distance[row, [*numbers]] = np.maximum(*both)
    return Cells(distance)


def _place(plan: Plan, at: tuple[int, int], counts: tuple[int, int]) -> Window:
    """The window of the patch in the middle of a cell."""
    side = max(1, round(PATCH / plan.enlargement))
    corner = [
        max(0, min(length - side, math.floor((index + 0.5) * length / count - side / 2)))
        for index, count, length in zip(
            at, counts, (plan.grid.height, plan.grid.width), strict=True
        )
    ]
    height, width = min(side, plan.grid.height), min(side, plan.grid.width)
    return Window(corner[1], corner[0], width, height)


def _look(reader: Reader, window: Window) -> tuple[Plane, Plane] | None:
    """Both dates of a patch, (PATCH, PATCH, bands); ``None`` where too much has no data."""
    images = reader.read_window(window)
    if images.valid.mean() < LEAST_DATA:
        return None
    before, after = (_resize(image) for image in (images.before, images.after))
    return before, after


def _resize(image: NDArray[np.float32]) -> Plane:
    """A patch as large as the network sees it."""
    factors = (1, PATCH / image.shape[1], PATCH / image.shape[2])
    resized = image if factors[1:] == (1, 1) else scipy.ndimage.zoom(image, factors, order=1)
    return np.asarray(resized.transpose(1, 2, 0), np.float32)


def write_doubt(finished: FinishedMap, cells: Cells, threshold: float) -> Path:
    """Writes ``doubt.tif`` beside a finished map: 0 to 250, and 255 for no data.

    Doubt is 1 where the probability is at the threshold. It is ``UNLIKE`` where the ground is
    unlike the training images, and 0 where neither holds.

    Raises:
        OutputError: If the file cannot be written.
    """
    path = finished.folder / DOUBT
    write_plane(
        path, finished.grid, _doubt_strips(finished, cells, threshold), 1 / STEPS, "average"
    )
    return path


def _doubt_strips(
    finished: FinishedMap, cells: Cells, threshold: float
) -> Iterator[NDArray[np.uint8]]:
    grid = finished.grid
    near = closeness(np.arange(256, dtype=np.float32) / np.float32(STEPS), threshold)
    with rasterio.open(finished.probability) as raster:
        for window in row_windows(grid.width, grid.height):
            stored = raster.read(1, window=window)
            doubt = join_doubt(cells.over(window, grid.width, grid.height), near[stored])
            values = (STEPS * doubt + 0.5).astype(np.uint8)
            values[stored == NO_DATA] = NO_DATA
            yield values


def join_doubt(far: Plane, near: Plane) -> Plane:
    """Doubt by the distance to what was seen and by the closeness to the threshold, in [0, 1]."""
    return np.asarray(1 - (1 - UNLIKE * far) * (1 - near), np.float32)


def closeness(probability: Plane, threshold: float) -> Plane:
    """1 at the threshold, falling to 0 at probabilities of 0 and 1."""
    below = probability / max(threshold, 1e-6)
    above = (1 - probability) / max(1 - threshold, 1e-6)
    return np.asarray(np.clip(np.minimum(below, above), 0, 1), np.float32)

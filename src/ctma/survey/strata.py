"""Strata of a map: its change, what lies near, and the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window
from scipy import ndimage

from ctma.errors import DataError, first_line
from ctma.scene.finished import FinishedMap
from ctma.scene.grid import measure_distance
from ctma.scene.strips import NO_DATA, STEPS, row_windows
from ctma.survey.ground import PixelAreas
from ctma.survey.settings import SampleSettings
from ctma.types import Pixels

CHANGE, NEAR, REST = "change", "near change", "no change"
ZONES = (REST, NEAR, CHANGE)

BUFFER_PIXELS = 10
"""Width of the buffer around mapped changes, if none is wanted."""


@dataclass(frozen=True)
class Stratum:
    """A part of the map.

    Attributes:
        code: Its number on the map.
        name: What it holds.
        mapped: Whether the map calls it change: 0 or 1.
        pixels: Number of pixels, or of polygons.
        area: Its ground area, square metres.
        mean_guess: Mean probability over its ground.
    """

    code: int
    name: str
    mapped: int
    pixels: int
    area: float
    mean_guess: float

    @property
    def zone(self) -> str:
        """``CHANGE``, ``NEAR`` or ``REST``."""
        return self.name.partition(", probability")[0]


def name_stratum(zone: str, settings: SampleSettings, level: int) -> str:
    """The name of a stratum.

    Args:
        zone: One of ``ZONES``.
        settings: How the map is divided.
        level: The number of the stratum among the ``levels`` of the zone.
    """
    if not settings.levels:
        return zone
    low, high = [0.0, *settings.levels, 1.0][level : level + 2]
    return f"{zone}, probability {low:g} to {high:g}"


class Strip(NamedTuple):
    """Rows of the map.

    Attributes:
        window: Where they lie.
        codes: (rows, W) the stratum of each pixel; ``NO_DATA`` for none.
        probability: (rows, W) in steps.
    """

    window: Window
    codes: Pixels
    probability: Pixels


class Strata:
    """The strata of a map, read strip by strip.

    Args:
        finished: The map.
        settings: How the map is divided: ``buffer`` and ``levels``.
    """

    def __init__(self, finished: FinishedMap, settings: SampleSettings):
        self.finished = finished
        self.levels = np.array(settings.levels) * STEPS
        self.settings = settings
        distance = measure_distance(finished.grid)
        wanted = settings.buffer
        if wanted is not None and distance is None:
            raise DataError(
                f"{finished.folder}: its pixels have no size, so `buffer` has no meaning"
            )
        self.radius = (
            BUFFER_PIXELS if wanted is None or distance is None else round(wanted / distance)
        )

    @cached_property
    def areas(self) -> PixelAreas:
        """Ground areas of the pixels."""
        return PixelAreas(self.finished.grid)

    def __iter__(self) -> Iterator[Strip]:
        """Strips from top to bottom.

        Raises:
            DataError: If a raster of the map cannot be read.
        """
        grid = self.finished.grid
        try:
            with ExitStack() as stack:
                mask, probability = (
                    stack.enter_context(rasterio.open(path))
                    for path in (self.finished.mask, self.finished.probability)
                )
                for window in row_windows(grid.width, grid.height):
                    stored = probability.read(1, window=window)
                    yield Strip(window, self._code(mask, window, stored), stored)
        except RasterioError as error:
            raise DataError(f"{self.finished.folder}: {first_line(error)}") from error

    def _code(self, mask: rasterio.DatasetReader, window: Window, stored: Pixels) -> Pixels:
        top = max(0, window.row_off - self.radius)
        bottom = min(mask.height, window.row_off + window.height + self.radius)
        around = mask.read(1, window=Window(0, top, mask.width, bottom - top))
        changed = around == 1
        if changed.any() and self.radius:
            near = ndimage.maximum_filter(changed, size=2 * self.radius + 1, mode="constant")
        else:
            near = changed
        inside = slice(window.row_off - top, window.row_off - top + window.height)
        zones = near[inside].astype(np.uint8) + changed[inside]
        codes = zones * np.uint8(len(self.levels) + 1)
        codes += np.searchsorted(self.levels, stored, side="right").astype(np.uint8)
        codes[(around[inside] == NO_DATA) | (stored == NO_DATA)] = NO_DATA
        return codes

    def describe(self) -> list[Stratum]:
        """The strata that have pixels.

        Raises:
            DataError: If a raster of the map cannot be read, or no pixel has data.
        """
        count = len(ZONES) * (len(self.levels) + 1)
        sums = np.zeros((3, count))
        for strip in self:
            seen = strip.codes != NO_DATA
            codes, ground = (
                strip.codes[seen],
                self.areas.over(strip.window)[seen].astype(np.float64),
            )
            guesses = ground * strip.probability[seen] / STEPS
            for row, weights in zip(sums, (None, ground, guesses), strict=True):
                row += np.bincount(codes, weights, minlength=count)
        found = [self._stratum(code, *sums[:, code]) for code in range(count) if sums[0, code]]
        if not found:
            raise DataError(f"{self.finished.folder}: no pixel of the map has data")
        return found

    def _stratum(self, code: int, pixels: float, area: float, guesses: float) -> Stratum:
        zone, level = divmod(code, len(self.levels) + 1)
        name = name_stratum(ZONES[zone], self.settings, level)
        mapped = int(ZONES[zone] == CHANGE)
        return Stratum(code, name, mapped, int(pixels), float(area), float(guesses / area))

    def locate(
        self, wanted: dict[int, NDArray[np.int64]]
    ) -> dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Rows and columns of some pixels of strata.

        Args:
            wanted: For each code, the numbers of its pixels in reading order, in any order.
        """
        found = {code: np.zeros((2, len(numbers)), np.int64) for code, numbers in wanted.items()}
        before = dict.fromkeys(wanted, 0)
        for strip in self:
            for code, numbers in wanted.items():
                places = np.flatnonzero(strip.codes == code)
                here = (numbers >= before[code]) & (numbers < before[code] + len(places))
                rows, columns = np.divmod(
                    places[numbers[here] - before[code]], strip.codes.shape[1]
                )
                found[code][:, here] = rows + int(strip.window.row_off), columns
                before[code] += len(places)
        return {code: (rows, columns) for code, (rows, columns) in found.items()}

    def look_up(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The stratum and the probability of some pixels; the stratum is ``NO_DATA`` for none."""
        codes = np.full(len(rows), NO_DATA, np.int64)
        guesses = np.zeros(len(rows))
        for strip in self:
            top = int(strip.window.row_off)
            here = (rows >= top) & (rows < top + strip.codes.shape[0])
            at = rows[here] - top, columns[here]
            codes[here], guesses[here] = strip.codes[at], strip.probability[at] / STEPS
        return codes, guesses

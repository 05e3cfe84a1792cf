"""Draws places from a map at random."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from ctma.errors import DataError, SettingError
from ctma.review.changes import MappedChange
from ctma.review.scenes import read_scene_changes
from ctma.scene.finished import FinishedMap
from ctma.scene.strips import NO_DATA
from ctma.survey.allocation import share_points
from ctma.survey.settings import LEAST_POINTS, SampleSettings
from ctma.survey.strata import CHANGE, Strata, Stratum, name_stratum

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Drawn:
    """Places in random order.

    Attributes:
        strata: The strata of the map.
        sizes: Number of places of each stratum.
        rows: (n,) its row.
        columns: (n,) its column.
        outlines: The polygon of each place, in columns and rows; ``None`` where places are pixels.
        changes: (n,) the number of the mapped change, where changes are drawn; else 0.
    """

    strata: list[Stratum]
    sizes: list[int]
    rows: Numbers
    columns: Numbers
    outlines: list[BaseGeometry] | None
    changes: Numbers


def draw(finished: FinishedMap, settings: SampleSettings) -> Drawn:
    """Draws places from a map.

    Raises:
        DataError: If a file of the map cannot be read, or the map has nothing to draw from.
        SettingError: If a regular grid would need more places than the map has pixels.
    """
    random = np.random.default_rng(settings.seed)
    if settings.units == "polygons":
        return _draw_polygons(finished, settings, random)
    strata = Strata(finished, settings)
    parts = strata.describe()
    if settings.design == "systematic":
        codes, rows, columns = _lay_grid(strata, parts, settings, random)
    else:
        codes, rows, columns = _draw_pixels(strata, parts, settings, random)
    order = random.permutation(len(codes))
    sizes = [int((codes == part.code).sum()) for part in parts]
    none = np.zeros(len(codes), np.int64)
    return Drawn(parts, sizes, rows[order], columns[order], None, none)


def _draw_pixels(
    strata: Strata,
    parts: Sequence[Stratum],
    settings: SampleSettings,
    random: np.random.Generator,
) -> tuple[Numbers, Numbers, Numbers]:
    """Pixels of each stratum, each piece of ground with the same chance."""
    sizes = dict(zip((part.code for part in parts), share_points(parts, settings), strict=True))
    # Some are drawn in vain: a small pixel is kept less often than a large one.
    tries = {}
    for part in parts:
        kept = part.area / part.pixels / strata.areas.largest
        wanted = math.ceil(sizes[part.code] / kept * 1.3) + 20
        chosen = random.choice(part.pixels, min(part.pixels, wanted), replace=False)
        tries[part.code] = chosen.astype(np.int64)
    chosen_codes, chosen_rows, chosen_columns = [], [], []
    for code, (rows, columns) in strata.locate(tries).items():
        size = sizes[code]
        # The first `size` of a random order of chances; all of a stratum that is drawn whole.
        chances = random.random(len(rows)) * strata.areas.largest
        order = np.argsort(chances > strata.areas.at(rows, columns), kind="stable")[:size]
        chosen_codes.append(np.full(len(order), code, np.int64))
        chosen_rows.append(rows[order])
        chosen_columns.append(columns[order])
    return (*map(np.concatenate, (chosen_codes, chosen_rows, chosen_columns)),)  # type: ignore[return-value]


def _lay_grid(
    strata: Strata, parts: Sequence[Stratum], settings: SampleSettings, random: np.random.Generator
) -> tuple[Numbers, Numbers, Numbers]:
    """Pixels on a regular grid with a random start; those without data are left out."""
    grid = strata.finished.grid
    step = math.sqrt(sum(part.pixels for part in parts) / settings.points)
    if step < 1:
        raise SettingError(f"`points` {settings.points}: more than the map has pixels")
    starts = random.random(2) * step
    rows, columns = (
        np.arange(start, length, step).astype(np.int64)
        for start, length in zip(starts, (grid.height, grid.width), strict=True)
    )
    across, down = (axis.ravel() for axis in np.meshgrid(columns, rows))
    codes, _ = strata.look_up(down, across)
    seen = codes != NO_DATA
    if seen.sum() < LEAST_POINTS:
        raise DataError(f"{strata.finished.folder}: fewer than {LEAST_POINTS} places have data")
    return codes[seen], down[seen], across[seen]


def _draw_polygons(
    finished: FinishedMap, settings: SampleSettings, random: np.random.Generator
) -> Drawn:
    """Mapped changes, of each stratum of probability each with the same chance."""
    changes, codes, parts = divide_changes(finished, settings)
    sizes = share_points(parts, settings)
    chosen = np.concatenate([
        random.choice(np.flatnonzero(codes == part.code), size, replace=False)
        for part, size in zip(parts, sizes, strict=True)
    ])  # fmt: skip
    chosen = random.permutation(chosen)
    places = [changes[index] for index in chosen]
    points = shapely.get_coordinates(shapely.point_on_surface([one.outline for one in places]))
    return Drawn(
        parts, sizes,
        points[:, 1].astype(np.int64), points[:, 0].astype(np.int64),
        [one.outline for one in places], np.array([one.id for one in places]),
    )  # fmt: skip


def divide_changes(
    finished: FinishedMap, settings: SampleSettings
) -> tuple[list[MappedChange], Numbers, list[Stratum]]:
    """The mapped changes, the stratum of each, and the strata.

    Raises:
        DataError: If the map shows no change, or its changes cannot be read.
    """
    changes = read_scene_changes(finished)
    if len(changes) < LEAST_POINTS:
        raise DataError(f"{finished.polygons}: holds {len(changes)} changes, too few to draw from")
    means = np.array([change.mean or 0.0 for change in changes])
    areas = np.array([change.area for change in changes])
    codes = np.searchsorted(settings.levels, means, side="right").astype(np.int64)
    parts = []
    for code in np.unique(codes):
        here = codes == code
        area = float(areas[here].sum())
        guess = float(means[here] @ areas[here] / area)
        name = name_stratum(CHANGE, settings, int(code))
        parts.append(Stratum(int(code), name, 1, int(here.sum()), area, guess))
    return changes, codes, parts

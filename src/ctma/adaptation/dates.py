"""Both dates of a scene on one grid, for tiles of any bands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rasterio import DatasetReader

from ctma.data.rasters import ALPHA, describe_bands
from ctma.errors import DataError, SettingError
from ctma.scene.finished import DATES, FinishedMap, find_date
from ctma.scene.grid import Grid, common_grid
from ctma.scene.rasters import open_raster, raster_errors
from ctma.scene.source import Source
from ctma.types import IMAGE_BANDS, name_bands


class Band(NamedTuple):
    """One band to read.

    Attributes:
        name: The band's name.
        number: The band's number in the raster, from 1; ``None`` to find the band by its name.
    """

    name: str
    number: int | None


@dataclass(frozen=True)
class Dates:
    """Both dates of a scene.

    Attributes:
        paths: The rasters before and after.
        grid: The common grid.
        sources: Both dates on the grid.
        names: The names of the bands, of both dates.
    """

    paths: tuple[str, str]
    grid: Grid
    sources: tuple[Source, Source]
    names: tuple[str, ...]


def parse_bands(text: str) -> tuple[Band, ...]:
    """Parses bands such as ``red,green,blue,nir`` or ``red=3,green=2,blue=1,nir=4``.

    Raises:
        SettingError: If the text has another form, or names a band twice.
    """
    bands = []
    for part in text.split(","):
        name, equals, number = part.partition("=")
        if not name.strip() or (equals and not number.strip().isdigit()):
            raise SettingError(
                f"`bands` {text}: expected names, such as red,green,blue,nir, or names with "
                "numbers, such as red=3,green=2,blue=1"
            )
        bands.append(Band(name.strip().lower(), int(number) if equals else None))
    if len({band.name for band in bands}) < len(bands):
        raise SettingError(f"`bands` {text}: names a band twice")
    return tuple(bands)


@contextmanager
def open_dates(
    before: str | Path,
    after: str | Path,
    bands: Sequence[Band] | None = None,
    nodata: float | None = None,
) -> Iterator[Dates]:
    """Opens two rasters on the grid of the raster before.

    Args:
        before: A raster.
        after: A raster that overlaps the raster before.
        bands: The bands to read; by default all that are no alpha.
        nodata: The stored value that means no data, in bands without a nodata value of their own.

    Raises:
        SceneError: If a raster cannot be read, or both have no ground in common.
        DataError: If both dates have other bands.
        SettingError: If a raster lacks a band.
    """
    paths = str(before), str(after)
    with ExitStack() as stack:
        rasters = [stack.enter_context(closing(open_raster(path))) for path in paths]
        with raster_errors(f"{before} and {after}: cannot be brought onto one grid"):
            overlap = common_grid(rasters[0], rasters[1])
        chosen = [_choose(raster, _by_order(raster, bands)) for raster in rasters]
        names = [tuple(name for name, _ in date) for date in chosen]
        if names[0] != names[1]:
            listed = [", ".join(date) for date in names]
            raise DataError(
                f"{before}: has the bands {listed[0]}, and {after} has {listed[1]}; name those to "
                "read as `bands`"
            )
        grids = overlap.grid, overlap.grid.turned(overlap.turn)
        first, second = (
            stack.enter_context(Source(raster, grid, [number for _, number in date], nodata))
            for raster, grid, date in zip(rasters, grids, chosen, strict=True)
        )
        yield Dates(paths, overlap.grid, (first, second), names[0])


@contextmanager
def open_dates_of(finished: FinishedMap, bands: Sequence[Band] | None = None) -> Iterator[Dates]:
    """Opens both dates of a map as the map's network saw them.

    Args:
        finished: The map.
        bands: The names of the bands that the network saw, in order; by default the names that the
            network knows.

    Raises:
        SceneError: If a raster is not where it lay, or cannot be read.
    """
    holes = finished.summary["nodata"], finished.summary["nodata_any"]
    with ExitStack() as stack:
        dates = [find_date(finished, name) for name in DATES]
        rasters = [stack.enter_context(closing(open_raster(date.path))) for date in dates]
        first, second = (
            stack.enter_context(Source(raster, date.grid, date.bands, *holes))
            for raster, date in zip(rasters, dates, strict=True)
        )
        names = _name(finished, dates[0].bands, bands)
        paths = dates[0].path, dates[1].path
        yield Dates(paths, finished.grid, (first, second), names)


def _name(
    finished: FinishedMap, numbers: Sequence[int], bands: Sequence[Band] | None
) -> tuple[str, ...]:
    """Names for the bands of a map: not those of the rasters, which `--bands` may contradict."""
    if bands is not None:
        if len(bands) != len(numbers):
            raise SettingError(f"`bands` names {len(bands)}, and the map shows {len(numbers)}")
        return tuple(band.name for band in bands)
    # Maps of former versions do not tell.
    return tuple(finished.summary.get("bands") or name_bands(len(numbers)))


def _by_order(raster: DatasetReader, wanted: Sequence[Band] | None) -> Sequence[Band] | None:
    """The wanted bands, numbered in order where the raster has as many bands without names."""
    if wanted is None or any(band.number for band in wanted):
        return wanted
    described = describe_bands(raster)
    unnamed = described == name_bands(len(described)) and not any(raster.descriptions)
    if not unnamed or len(described) != len(wanted) or len(wanted) == len(IMAGE_BANDS):
        return wanted
    return [Band(band.name, number) for number, band in enumerate(wanted, start=1)]


def _choose(raster: DatasetReader, wanted: Sequence[Band] | None) -> list[tuple[str, int]]:
    """Names and numbers of the bands of a raster to read."""
    described = describe_bands(raster)
    colours = [number for number, name in enumerate(described, start=1) if name != ALPHA]
    if wanted is not None:
        return [(band.name, _find(raster, band, described)) for band in wanted]
    if len(colours) == 1:
        return [(name, colours[0]) for name in IMAGE_BANDS]
    return [(described[number - 1], number) for number in colours]


def _find(raster: DatasetReader, band: Band, described: Sequence[str]) -> int:
    """The number of a wanted band: as said, or by its name."""
    if band.number is not None:
        if not 1 <= band.number <= raster.count:
            raise SettingError(
                f"`bands` {band.name}: {raster.name} has no band {band.number}, it has 1 to "
                f"{raster.count}"
            )
        return band.number
    if band.name in described:
        return described.index(band.name) + 1
    names = [name for name in described if name != ALPHA]
    raise SettingError(
        f"`bands` {band.name}: {raster.name} has {', '.join(names)}; say which band is meant, such "
        f"as {band.name}=1"
    )

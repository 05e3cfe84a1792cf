"""A map of a scene, for its reviewer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from shapely import box
from shapely.affinity import affine_transform

from ctma.errors import DataError
from ctma.review.changes import MappedChange, Place, ReviewedMap
from ctma.review.degrees import fit_degrees
from ctma.scene.finished import DATES, DatePictures, FinishedMap, read_reduced
from ctma.scene.rasters import raster_settings
from ctma.scene.source import OVERVIEW_SIDE


@contextmanager
def open_scene(
    finished: FinishedMap, before: str | Path | None = None, after: str | Path | None = None
) -> Iterator[ReviewedMap]:
    """Gives the map of a scene, with both dates open.

    Args:
        finished: The map.
        before: Where the raster before lies now; by default where it lay.
        after: Where the raster after lies now.

    Raises:
        DataError: If a file of the map cannot be read.
    """
    with raster_settings(), DatePictures(finished, before, after) as pictures:
        names = [Path(finished.summary[date]["path"]).name for date in DATES]
        yield ReviewedMap(
            " and ".join(names),
            finished.fingerprint,
            float(finished.summary["threshold"]),
            "m²",
            [place_of(finished, pictures)],
            read_scene_changes(finished),
        )


def place_of(finished: FinishedMap, pictures: DatePictures) -> Place:
    """The place of a scene, with its open dates."""
    grid = finished.grid
    return Place(
        "",
        grid.width,
        grid.height,
        fit_degrees(grid),
        pictures.read_whole,
        pictures.read,
        partial(read_reduced, finished.probability, OVERVIEW_SIDE),
    )


def read_scene_changes(finished: FinishedMap) -> list[MappedChange]:
    """The changes of a scene, in columns and rows.

    Raises:
        DataError: If the file of changes lacks attributes that ctma writes, or holds a polygon
            outside the map.
    """
    table = finished.read_changes()
    wanted = ("id", "area_m2", "mean_probability")
    if missing := [name for name in wanted if name not in table]:
        raise DataError(f"{finished.polygons}: has no attribute {', '.join(missing)}")
    to_pixels = (~finished.grid.transform).to_shapely()
    columns = (table[name] for name in wanted)
    changes = [
        MappedChange(0, int(number), float(area), float(mean), affine_transform(shape, to_pixels))
        for number, area, mean, shape in zip(*columns, table.geometry, strict=True)
    ]
    whole = box(0, 0, finished.grid.width, finished.grid.height)
    outside = [change.id for change in changes if not whole.intersects(change.outline)]
    if outside:
        raise DataError(f"{finished.polygons}: change {outside[0]} lies outside the map")
    return changes

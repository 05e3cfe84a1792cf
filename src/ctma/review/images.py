"""Masks of image pairs, for their reviewer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from rasterio.windows import Window

from ctma.data.images import read_image, read_label
from ctma.data.readers import images_by_name
from ctma.errors import DataError, ImageError, warn
from ctma.files import file_fingerprint, fingerprint
from ctma.inference.batch import read_sources
from ctma.review.changes import MappedChange, Place, ReviewedMap
from ctma.scene.finished import DATES, Pictures
from ctma.scene.polygons import Tracer
from ctma.scene.source import OVERVIEW_SIDE, reduce_shape
from ctma.scene.strips import NO_DATA, STEPS
from ctma.types import Pixels


@contextmanager
def open_images(
    folder: Path, before: str | Path | None = None, after: str | Path | None = None
) -> Iterator[ReviewedMap]:
    """Gives the masks of image pairs.

    Warns about a pair whose images are not at hand.

    Args:
        folder: The folder that ``predict_files`` wrote.
        before: The folder of the images before, or the image; by default where they lay.
        after: The folder of the images after, or the image.

    Raises:
        DataError: If the folder holds no masks.
        ImageError: If a mask or a probability cannot be read.
    """
    masks = find_masks(folder)
    sources = read_sources(folder)
    places, changes, least = [], [], 1.0
    for index, mask in enumerate(masks):
        paths = [
            _find(date, mask.name, moved, sources)
            for date, moved in zip(DATES, (before, after), strict=True)
        ]
        found, threshold = trace_mask(mask, index)
        places.append(_place(mask, paths))
        changes += found
        least = min(least, threshold)
    title = f"{len(masks)} pairs of images" if len(masks) > 1 else masks[0].name
    yield ReviewedMap(title, fingerprint_masks(masks), least, "pixels", places, changes)


class PredictedMask(NamedTuple):
    """The files of one predicted pair of images.

    Attributes:
        name: The name of the pair.
        mask: 0 and 255.
        probability: 0 to 255.
    """

    name: str
    mask: Path
    probability: Path


def find_masks(folder: Path) -> list[PredictedMask]:
    """The masks that ``predict_files`` wrote, each with a probability of the same name.

    Raises:
        DataError: If there is none.
    """
    found = []
    for mask in sorted((folder / "mask").rglob("*.png")):
        way = mask.relative_to(folder / "mask")
        if (folder / "probability" / way).is_file():
            name = way.with_suffix("").as_posix()
            found.append(PredictedMask(name, mask, folder / "probability" / way))
    if not found:
        raise DataError(f"{folder}: holds no map and no masks of `ctma predict`")
    return found


def fingerprint_masks(masks: list[PredictedMask]) -> str:
    """A fingerprint of masks, by their names and content."""
    return fingerprint(part for mask in masks for part in (mask.name, file_fingerprint(mask.mask)))


def trace_mask(mask: PredictedMask, place: int) -> tuple[list[MappedChange], float]:
    """The changes of a mask in columns and rows, and the smallest probability of a changed pixel.

    Raises:
        ImageError: If the mask or its probability cannot be read, or their sizes differ.
    """
    changed = read_label(mask.mask) > 0
    probability = read_label(mask.probability)
    if probability.shape != changed.shape:
        raise ImageError(f"{mask.mask}: has another size than {mask.probability}")
    tracer = Tracer(changed.shape[1])
    traced = [*tracer.add(changed.view(np.uint8), probability / 255), *tracer.close()]
    traced.sort(key=lambda change: change.outline.bounds[1::-1])
    changes = [
        MappedChange(place, number, change.pixels, change.total / change.pixels, change.outline)
        for number, change in enumerate(traced, start=1)
    ]
    return changes, float(probability[changed].min()) / 255 if changed.any() else 1.0


def _find(
    date: str, name: str, moved: str | Path | None, sources: dict[str, dict[str, str]]
) -> Path | None:
    """The image of a pair at one date, ``None`` where it is not at hand."""
    place = Path(moved) if moved is not None else None
    if place is not None and place.is_dir():
        path = images_by_name(place).get(name)
    else:
        path = place or Path(sources.get(name, {}).get(date, ""))
    if path is not None and path.is_file():
        return path
    warn(f"{name}: the image {date} is not at hand; name where it is as `{date}`")
    return None


def _place(mask: PredictedMask, paths: list[Path | None]) -> Place:
    with Image.open(mask.mask) as image:
        width, height = image.size

    @lru_cache(maxsize=1)
    def read_both() -> Pictures:
        first, second = (_read(path, (height, width)) for path in paths)
        return first, second

    def read(window: Window, shape: tuple[int, int]) -> Pictures:
        first, second = (_cut(picture, window, shape) for picture in read_both())
        return first, second

    def read_whole() -> Pictures:
        shape = reduce_shape((height, width), OVERVIEW_SIDE)
        return read(Window(0, 0, width, height), shape)

    probability = partial(_in_steps, mask.probability)
    return Place(mask.name, width, height, None, read_whole, read, probability)


def _read(path: Path | None, size: tuple[int, int]) -> Pixels | None:
    picture = None if path is None else read_image(path)
    if picture is not None and picture.shape[:2] != size:
        warn(f"{path}: has another size than its mask; the pictures go without")
        return None
    return picture


def _cut(picture: Pixels | None, window: Window, shape: tuple[int, int]) -> Pixels | None:
    if picture is None:
        return None
    rows, columns = window.toslices()
    part = picture[rows, columns]
    if part.shape[:2] == shape:
        return part
    reduced = Image.fromarray(part).resize((shape[1], shape[0]), Image.Resampling.BOX)
    return np.asarray(reduced)


def _in_steps(path: Path) -> Pixels:
    """The probability as maps store it, reduced."""
    with Image.open(path) as image:
        image.thumbnail((OVERVIEW_SIDE, OVERVIEW_SIDE))
        stored = np.asarray(image, np.float32)
    steps: Pixels = np.rint(stored * (STEPS / NO_DATA)).astype(np.uint8)
    return steps

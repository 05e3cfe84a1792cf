"""Augments pairs of images together with their label.

All functions work on uint8 arrays (H, W) or (H, W, C). All random numbers come from one
``numpy.random.Generator``, so a sample depends only on its seed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection
from functools import partial
from typing import TypeVar

import numpy as np
from PIL import Image

from ctma.data.pairs import Sample
from ctma.errors import UnknownNameError
from ctma.types import IGNORED, IMAGE_BANDS, Pixels

Augmentation = Callable[[Sample, np.random.Generator], Sample]
T = TypeVar("T", Pixels, Sample)

SHIFT_SHARE = 0.0625
"""The largest shift of the paper's augmentation, as a share of the image size."""


LOOKS = ("misregistration", "colour", "blur", "noise", "jpeg")
"""Parts of an augmentation that change how a date looks, but not what it shows; always the last."""


def split(name: str, without: Collection[str] = ()) -> tuple[Augmentation, Augmentation]:
    """An augmentation in two: what changes the scene, then what changes the look of each date.

    Args:
        name: See ``augmentation``.
        without: See ``augmentation``.
    """
    parts = AUGMENTATIONS[name]
    looks = [part for part in parts if part in LOOKS]
    scenes = [part for part in parts if part not in LOOKS]
    return augmentation(name, {*without, *looks}), augmentation(name, {*without, *scenes})


def augmentation(name: str, without: Collection[str] = ()) -> Augmentation:
    """Returns an augmentation by its name.

    Args:
        name: ``"paper"`` (``paper``); ``"mild"``, a gentle policy for the start of training;
            ``"strong"``, a wide policy for small data sets and robust weights; or ``"none"``.
        without: Names of parts to leave out; ``AUGMENTATIONS`` lists the parts.

    Raises:
        UnknownNameError: If the augmentation is unknown, or has no such part.
    """
    if name not in AUGMENTATIONS:
        raise UnknownNameError("augmentation", name, AUGMENTATIONS)
    parts = AUGMENTATIONS[name]
    for part in without:
        if part not in parts:
            raise UnknownNameError(f"part of the augmentation {name}", part, parts)
    return partial(_in_turn, tuple(parts[part] for part in parts if part not in without))


def random_crop(
    sample: Sample,
    size: int,
    rng: np.random.Generator,
    zoom: tuple[float, float] = (1.0, 1.0),
    focus: float = 0.0,
) -> Sample:
    """Cuts the same square out of both images and the label.

    Args:
        sample: Both images and the label.
        size: Side of the crop, in pixels. Without zoom, smaller images stay whole.
        rng: The random number generator.
        zoom: Range of the square's side before resizing, as a multiple of ``size``. The image
            limits the square. The function resizes the square to ``size``.
        focus: Probability that the square contains a changed pixel, if the label has any.
    """
    zoomed = zoom != (1.0, 1.0)
    side = size
    if zoomed:
        side = min(round(size * np.exp(rng.uniform(*np.log(zoom)))), *sample[2].shape)
    focused = focus > 0 and rng.random() < focus
    cut = _cut(sample, side, *_corner(sample[2], side, rng, focused))
    return _resize_each(cut, (size, size)) if zoomed else cut


def paste(sample: Sample, donor: Sample) -> Sample:
    """Copies the changed pixels of a donor sample of the same size into both dates of a sample.

    Both dates get the same outline, so the outline alone does not show change.
    """
    changed = donor[2] == 1
    before, after = (np.where(changed[..., None], donor[date], sample[date]) for date in (0, 1))
    return before, after, np.where(changed, donor[2], sample[2])


def put_together(first: Sample, second: Sample) -> Sample:
    """Makes a pair from two places; change is what only one of the two labels contains.

    After Zheng et al., "Change is Everywhere: Single-Temporal Supervised Object Change Detection
    in Remote Sensing Imagery", ICCV 2021.

    Args:
        first: One image as both dates, and the label of the objects in the image.
        second: A sample in the same form, of another place and of the same size.
    """
    ignored = (first[2] == IGNORED) | (second[2] == IGNORED)
    return first[0], second[1], np.where(ignored, np.uint8(IGNORED), first[2] ^ second[2])


def paper(sample: Sample, rng: np.random.Generator) -> Sample:
    """Applies one of the seven augmentations of the paper, each with the same probability.

    The seven are: horizontal flip; vertical flip; rotation by 90, 180 or 270 degrees; shift by
    whole pixels within 6.25 % of the image size, with zero fill; identity.
    """
    choice = PAPER_CHOICES[int(rng.integers(len(PAPER_CHOICES)))]
    if choice == "shift":
        height, width = sample[0].shape[:2]
        down, right = (_uniform_shift(size, rng) for size in (height, width))
        return _each(sample, lambda image: shift(image, down, right))
    return _each(sample, _EXACT[choice])


def shift(image: Pixels, down: int, right: int) -> Pixels:
    """Shifts an image by whole pixels and fills the border with zeros."""
    height, width = image.shape[:2]
    moved = np.zeros_like(image)
    target = moved[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]
    target[:] = image[max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)]
    return moved


def lose_detail(image: Pixels, factor: float) -> Pixels:
    """Simulates a coarser sensor: scales an image down by a factor and up again."""
    height, width = image.shape[:2]

    def alter(source: Image.Image) -> Image.Image:
        small = source.resize((int(width / factor), int(height / factor)), Image.Resampling.BOX)
        return small.resize((width, height), Image.Resampling.BICUBIC)

    return _as_pictures(image, alter)


def compress(image: Pixels, quality: int) -> Pixels:
    """Compresses an image as JPEG, with a quality from 1 to 95, and decompresses the JPEG."""

    def alter(source: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        source.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer)

    return _as_pictures(image, alter)


def _as_pictures(image: Pixels, alter: Callable[[Image.Image], Image.Image]) -> Pixels:
    """Alters an image with Pillow, which knows no other bands than colours: else band by band."""
    if image.ndim == 2 or image.shape[2] == len(IMAGE_BANDS):
        return np.asarray(alter(Image.fromarray(np.ascontiguousarray(image))))
    bands = image.transpose(2, 0, 1)
    return np.stack([_as_pictures(band, alter) for band in bands], axis=-1)


_EXACT: dict[str, Callable[[Pixels], Pixels]] = {
    "horizontal flip": lambda image: image[:, ::-1],
    "vertical flip": lambda image: image[::-1],
    "rotation by 90": lambda image: np.rot90(image, 1),
    "rotation by 180": lambda image: np.rot90(image, 2),
    "rotation by 270": lambda image: np.rot90(image, 3),
    "identity": lambda image: image,
}
PAPER_CHOICES = (*_EXACT, "shift")
"""Names of the seven augmentations of ``paper``."""


def _each(sample: Sample, alter: Callable[[Pixels], Pixels]) -> Sample:
    before, after, change = (alter(image) for image in sample)
    return before, after, change


def _uniform_shift(size: int, rng: np.random.Generator) -> int:
    largest = int(size * SHIFT_SHARE)
    return int(rng.integers(-largest, largest + 1))


def _in_turn(parts: tuple[Augmentation, ...], sample: Sample, rng: np.random.Generator) -> Sample:
    for part in parts:
        sample = part(sample, rng)
    return sample


def _sometimes(
    odds: float,
    alter: Callable[[T, np.random.Generator], T],
    value: T,
    rng: np.random.Generator,
) -> T:
    return alter(value, rng) if rng.random() < odds else value


def _each_date(
    alter: Callable[[Pixels, np.random.Generator], Pixels],
    sample: Sample,
    rng: np.random.Generator,
) -> Sample:
    """Alters each image independently, with separate random numbers."""
    before, after, change = sample
    return alter(before, rng), alter(after, rng), change


def _turn(sample: Sample, rng: np.random.Generator) -> Sample:
    """Applies one of the eight flips and rotations."""
    turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
    return _each(sample, lambda image: np.rot90(image[:, ::-1] if mirrored else image, turns))


def _cut(sample: Sample, side: int, top: int, left: int) -> Sample:
    return _each(sample, lambda image: image[top : top + side, left : left + side])


def _corner(change: Pixels, side: int, rng: np.random.Generator, focused: bool) -> tuple[int, int]:
    """Row and column of a random square; a focused square contains a random changed pixel."""
    last = [max(length - side, 0) for length in change.shape]
    first = [0, 0]
    if focused and (changed := np.flatnonzero(change == 1)).size:
        pixel = np.unravel_index(rng.choice(changed), change.shape)
        first = [min(max(int(p) - side + 1, 0), high) for p, high in zip(pixel, last, strict=True)]
        last = [min(int(p), high) for p, high in zip(pixel, last, strict=True)]
    top, left = (int(rng.integers(low, high + 1)) for low, high in zip(first, last, strict=True))
    return top, left


def _swap(sample: Sample, rng: np.random.Generator) -> Sample:
    before, after, change = sample
    return after, before, change


def _still(sample: Sample, rng: np.random.Generator) -> Sample:
    """Uses the earlier image for both dates, with a label of no change."""
    image, _, change = sample
    return image, image, np.where(change == IGNORED, change, np.uint8(0))


def _misregister(sample: Sample, rng: np.random.Generator) -> Sample:
    """Shifts the later image by up to 2 pixels in each direction."""
    before, after, change = sample
    down, right = (int(step) for step in rng.integers(-2, 3, size=2))
    return before, np.roll(after, (down, right), axis=(0, 1)), change


def _zoom(sample: Sample, rng: np.random.Generator) -> Sample:
    height, width = sample[0].shape[:2]
    share = rng.uniform(0.8, 1.0)
    top, left = (rng.uniform(0, size * (1 - share)) for size in (height, width))
    box = (left, top, left + width * share, top + height * share)
    return _resize_each(sample, (width, height), box)


def _resize_each(
    sample: Sample, size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> Sample:
    """Resizes the box to (width, height): images bilinear, the label by nearest neighbour."""

    def resized(image: Pixels, resample: Image.Resampling) -> Pixels:
        return _as_pictures(image, lambda source: source.resize(size, resample, box))

    before, after, change = sample
    smooth, nearest = Image.Resampling.BILINEAR, Image.Resampling.NEAREST
    return resized(before, smooth), resized(after, smooth), resized(change, nearest)


def _recolour(image: Pixels, rng: np.random.Generator, cast: float = 0.05) -> Pixels:
    """Changes gamma of all bands, and gain and offset of each band, with one lookup table per band.

    The logarithm of each band's gain varies with the standard deviation ``cast``.
    """
    levels = np.linspace(0, 1, 256) ** np.exp(rng.normal(0, 0.2))
    gains = np.exp(rng.normal(0, 0.15)) * np.exp(rng.normal(0, cast, image.shape[2]))
    offsets = rng.normal(0, 0.05) + rng.normal(0, 0.02, image.shape[2])
    tables = np.clip(255 * (levels[:, None] * gains + offsets), 0, 255).astype(np.uint8)
    return np.stack([tables[image[..., band], band] for band in range(image.shape[2])], axis=-1)


def _blur(image: Pixels, rng: np.random.Generator) -> Pixels:
    return lose_detail(image, rng.uniform(1.3, 2.5))


def _add_noise(image: Pixels, rng: np.random.Generator) -> Pixels:
    noise = rng.normal(0, rng.uniform(2, 8), image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def _compress(image: Pixels, rng: np.random.Generator) -> Pixels:
    return compress(image, int(rng.integers(40, 90)))


AUGMENTATIONS: dict[str, dict[str, Augmentation]] = {
    "paper": {"choice": paper},
    "mild": {
        "turns": _turn,
        "swap": partial(_sometimes, 0.5, _swap),
        "still": partial(_sometimes, 0.03, _still),
        "misregistration": partial(_sometimes, 0.2, _misregister),
        "colour": partial(_sometimes, 0.4, partial(_each_date, _recolour)),
    },
    "strong": {
        "turns": _turn,
        "zoom": partial(_sometimes, 0.5, _zoom),
        "swap": partial(_sometimes, 0.5, _swap),
        "still": partial(_sometimes, 0.03, _still),
        "misregistration": partial(_sometimes, 0.3, _misregister),
        "colour": partial(_each_date, partial(_sometimes, 0.7, partial(_recolour, cast=0.12))),
        "blur": partial(_each_date, partial(_sometimes, 0.1, _blur)),
        "noise": partial(_each_date, partial(_sometimes, 0.1, _add_noise)),
        "jpeg": partial(_each_date, partial(_sometimes, 0.1, _compress)),
    },
    "none": {},
}
"""The named parts of each augmentation, in order of application."""

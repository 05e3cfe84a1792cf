"""One pair on disk, and its label as 0 and 1."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctma.data.images import read_image, read_label
from ctma.errors import DataError, ImageError
from ctma.types import Pixels

LOSSY = {".jpg", ".jpeg"}
"""Labels of these suffixes hold values between 0 and 255; change is above 127."""

NEAR = 5
"""Grey levels, 2 % of 255, by which a value may miss 0 or 255 and still count as it."""

FAINT = 32
"""A JPEG label that is no brighter than this was stored as 0/1, which compression does not keep."""

Sample = tuple[Pixels, Pixels, Pixels]
"""Before and after, (H, W, 3) each, and change, (H, W) in 0/1."""


@dataclass(frozen=True)
class Pair:
    """One place at two times, on disk.

    Attributes:
        name: Unique within its split, without suffix, such as ``"scene_1/scene_1_03"``.
        before: Image before.
        after: Image after.
        change: Label, or ``None`` where there is none.
    """

    name: str
    before: Path
    after: Path
    change: Path | None


def pair_files(pairs: Iterable[Pair]) -> Iterator[Path]:
    """All files of some pairs, those of a pair one after the other."""
    for pair in pairs:
        yield from (path for path in (pair.before, pair.after, pair.change) if path is not None)


def read_sample(pair: Pair, label_scale: int) -> Sample:
    """Both images and the label of a pair.

    Args:
        pair: A labelled pair.
        label_scale: The stored value of change, 1 or 255; see ``find_label_scale``.

    Raises:
        ImageError: If a file is unreadable or the sizes differ.
        DataError: If the pair has no label, or one of other values.
    """
    before, after = read_pair(pair)
    if pair.change is None:
        raise DataError(f"{pair.before}: this pair has no label")
    change = read_label(pair.change)
    if change.shape != before.shape[:2]:
        raise ImageError(
            f"{pair.change}: label of {size_text(change)}, its images are {size_text(before)}"
        )
    return before, after, binary_label(change, label_scale, pair.change)


def read_pair(pair: Pair) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Both images, (H, W, 3) each.

    Raises:
        ImageError: If one is unreadable or the sizes differ.
    """
    before = read_image(pair.before)
    after = before if pair.after == pair.before else read_image(pair.after)
    if before.shape != after.shape:
        raise ImageError(
            f"{pair.after}: {size_text(after)}, but {pair.before} is {size_text(before)}"
        )
    return before, after


def find_label_scale(pairs: Sequence[Pair], *, tolerant: bool = False) -> int:
    """Finds out whether labels are stored as 0/1 or as 0/255.

    The first label that holds any change decides. JPEG labels are 0/255: a compressed 0/1
    image would not survive.

    Args:
        pairs: Pairs of one data set.
        tolerant: Pass over labels that cannot be read.

    Returns:
        1 or 255; 255 if no label holds any change.
    """
    for pair in pairs:
        if pair.change is None or pair.change.suffix.lower() in LOSSY:
            continue
        try:
            largest = int(read_label(pair.change).max())
        except ImageError:
            if not tolerant:
                raise
            continue
        if largest > 0:
            return 1 if largest == 1 else 255
    return 255


def binary_label(label: Pixels, scale: int, path: Path) -> Pixels:
    """A stored label in 0/1: the one rule of training, scoring and the doctor.

    Values near 0 and near 255 count as these, and so do all greys of a JPEG, whichever is nearer.

    Args:
        label: As stored, (H, W).
        scale: The stored value of change, 1 or 255.
        path: Where it was stored, for the error, and to tell lossy labels.

    Raises:
        DataError: If a label holds other values, or a JPEG only values that change would not have.
    """
    lossy, near = path.suffix.lower() in LOSSY, NEAR if scale > 1 else 0
    largest = int(label.max())
    if 0 < largest <= (FAINT if lossy else near):
        raise DataError(f"{path}: label of values up to {largest}, expected 0 and {scale}")
    if not lossy:
        odd = np.unique(label[(label > near) & (label < scale - near) | (label > scale)])
        if len(odd):
            listed = ", ".join(map(str, odd[:4])) + (", …" if len(odd) > 4 else "")
            plural = "s" * (len(odd) > 1)
            raise DataError(f"{path}: label of value{plural} {listed}, expected 0 and {scale}")
    return (label > scale // 2).astype(np.uint8)


def count_between(label: Pixels, scale: int) -> int:
    """Pixels of a stored label that are neither 0 nor ``scale`` to the bit."""
    return int(np.count_nonzero((label != 0) & (label != scale)))


def size_text(image: NDArray[Any]) -> str:
    """Height and width for a message."""
    return f"{image.shape[0]} x {image.shape[1]}"

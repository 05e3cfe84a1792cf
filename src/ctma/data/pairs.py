"""Pairs on disk, and their labels as 0 and 1."""

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
"""Suffixes of lossy labels, which hold values between 0 and 255; change is above 127."""

NEAR = 5
"""Largest distance from 0 or 255 at which ctma rounds a value; grey levels, 2 % of 255."""

FAINT = 32
"""Brightest value of a JPEG label that was stored as 0/1; compression destroys such labels."""

Sample = tuple[Pixels, Pixels, Pixels]
"""Before and after, (H, W, 3) each, and change, (H, W) in 0/1."""


@dataclass(frozen=True)
class Pair:
    """One place at two times, on disk.

    Attributes:
        name: Name without suffix, unique within the split, such as ``"scene_1/scene_1_03"``.
        before: Image before.
        after: Image after.
        change: Label; ``None`` for a pair without a label.
    """

    name: str
    before: Path
    after: Path
    change: Path | None


def pair_files(pairs: Iterable[Pair]) -> Iterator[Path]:
    """Yields all files of some pairs, pair by pair."""
    for pair in pairs:
        yield from (path for path in (pair.before, pair.after, pair.change) if path is not None)


def read_sample(pair: Pair, label_scale: int) -> Sample:
    """Reads both images and the label of a pair.

    Args:
        pair: A labelled pair.
        label_scale: The stored value of change, 1 or 255; see ``find_label_scale``.

    Raises:
        ImageError: If a file is unreadable or the sizes differ.
        DataError: If the pair has no label, or the label holds other values.
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
    """Reads both images of a pair, (H, W, 3) each.

    Raises:
        ImageError: If an image is unreadable or the sizes differ.
    """
    before = read_image(pair.before)
    after = before if pair.after == pair.before else read_image(pair.after)
    if before.shape != after.shape:
        raise ImageError(
            f"{pair.after}: {size_text(after)}, but {pair.before} is {size_text(before)}"
        )
    return before, after


def find_label_scale(pairs: Sequence[Pair], *, tolerant: bool = False) -> int:
    """Finds whether a data set stores labels as 0/1 or as 0/255.

    The first label with any change decides. JPEG labels are always 0/255, because compression
    destroys 0/1 labels.

    Args:
        pairs: Pairs of one data set.
        tolerant: Skip unreadable labels.

    Returns:
        1 or 255; 255 if no label contains change.
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
    """Converts a stored label to 0/1; training, scoring and the doctor all use this rule.

    Values near 0 count as 0 and values near 255 as 255. For a JPEG, every value counts as the
    nearer of the two.

    Args:
        label: The stored label, (H, W).
        scale: The stored value of change, 1 or 255.
        path: File of the label, for error messages and to recognise lossy formats.

    Raises:
        DataError: If a label holds other values, or a JPEG label only values too dark for change.
    """
    lossy, near = path.suffix.lower() in LOSSY, NEAR if scale > 1 else 0
    largest = int(label.max())
    if 0 < largest <= (FAINT if lossy else near):
        raise DataError(f"{path}: label of values up to {largest}, expected 0 and {scale}")
    if not lossy:
        values = np.flatnonzero(np.bincount(label.ravel()))
        if scale > 1 and [*values[values > 0]] == [1, largest]:
            raise DataError(
                f"{path}: label of values 0, 1 and {largest}; ctma cannot tell whether {largest} "
                f"means change or ignore; write change as {scale} and stillness as 0"
            )
        odd = values[(values > near) & (values < scale - near) | (values > scale)]
        if len(odd):
            listed = ", ".join(map(str, odd[:4])) + (", …" if len(odd) > 4 else "")
            plural = "s" * (len(odd) > 1)
            raise DataError(f"{path}: label of value{plural} {listed}, expected 0 and {scale}")
    return (label > scale // 2).astype(np.uint8)


def count_between(label: Pixels, scale: int) -> int:
    """Counts the pixels of a stored label that are neither exactly 0 nor exactly ``scale``."""
    return int(np.count_nonzero((label != 0) & (label != scale)))


def size_text(image: NDArray[Any]) -> str:
    """Formats height and width for a message."""
    return f"{image.shape[0]} x {image.shape[1]}"

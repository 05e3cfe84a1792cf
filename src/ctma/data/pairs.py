"""Pairs on disk, and their labels as 0 and 1."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctma.data.images import read_ignored, read_image, read_label
from ctma.errors import DataError, ImageError
from ctma.types import IGNORED, Pixels

LOSSY = {".jpg", ".jpeg"}
"""Suffixes of lossy labels, which hold values between 0 and 255; change is above 127."""

NEAR = 5
"""Largest distance from 0 or 255 at which ctma rounds a value; grey levels, 2 % of 255."""

FAINT = 32
"""Brightest value of a JPEG label that was stored as 0/1; compression destroys such labels."""

Sample = tuple[Pixels, Pixels, Pixels]
"""Before and after, (H, W, C) each, and change, (H, W): 0, 1 or ``IGNORED``."""

ReadDate = Callable[[Path, int], Pixels]
"""Reads an image, (H, W, C) uint8, of the date before (0) or after (1)."""


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


def read_colours(path: Path, date: int) -> Pixels:
    """Reads an image of 8-bit colours, whatever its date; see ``read_image``."""
    del date
    return read_image(path)


def pair_files(pairs: Iterable[Pair]) -> Iterator[Path]:
    """Yields all files of some pairs, pair by pair."""
    for pair in pairs:
        yield from (path for path in (pair.before, pair.after, pair.change) if path is not None)


def read_sample(pair: Pair, label_scale: int, read: ReadDate = read_colours) -> Sample:
    """Reads both images and the label of a pair.

    Args:
        pair: A labelled pair.
        label_scale: The stored value of change, 1 or 255; see ``find_label_scale``.
        read: Reads an image of one date.

    Raises:
        ImageError: If a file is unreadable or the sizes differ.
        DataError: If the pair has no label, or the label holds other values.
    """
    before, after = read_pair(pair, read)
    if pair.change is None:
        raise DataError(f"{pair.before}: this pair has no label")
    change = read_change(pair.change, label_scale)
    if change.shape != before.shape[:2]:
        raise ImageError(
            f"{pair.change}: label of {size_text(change)}, its images are {size_text(before)}"
        )
    return before, after, change


def read_change(path: Path, label_scale: int) -> Pixels:
    """Reads a label, (H, W): 0, 1 or ``IGNORED``.

    Args:
        path: File of the label. The nodata value of a GeoTIFF marks pixels without a label.
        label_scale: The stored value of change, 1 or 255; see ``find_label_scale``.

    Raises:
        ImageError: If the file is unreadable.
        DataError: If the label holds other values.
    """
    return binary_label(read_label(path), label_scale, path, read_ignored(path))


def read_pair(pair: Pair, read: ReadDate = read_colours) -> tuple[Pixels, Pixels]:
    """Reads both images of a pair, (H, W, C) each.

    Args:
        pair: A pair.
        read: Reads an image of one date; by default images of 8-bit colours.

    Raises:
        ImageError: If an image is unreadable or the sizes differ.
    """
    before = read(pair.before, 0)
    after = before if pair.after == pair.before else read(pair.after, 1)
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
            largest = int(known(read_label(pair.change), read_ignored(pair.change)).max(initial=0))
        except ImageError:
            if not tolerant:
                raise
            continue
        if largest > 0:
            return 1 if largest == 1 else 255
    return 255


def known(label: Pixels, ignored: int | None) -> Pixels:
    """The stored values of the pixels that have a label, (N,) or the label itself."""
    return label if ignored is None else label[label != ignored]


def binary_label(label: Pixels, scale: int, path: Path, ignored: int | None = None) -> Pixels:
    """Converts a stored label; training, scoring and the doctor all use this rule.

    Values near 0 count as 0 and values near 255 as 255. For a JPEG, every value counts as the
    nearer of the two.

    Args:
        label: The stored label, (H, W).
        scale: The stored value of change, 1 or 255.
        path: File of the label, for error messages and to recognise lossy formats.
        ignored: The stored value of pixels without a label, if any; see ``read_ignored``.

    Returns:
        (H, W): 0, 1 or ``IGNORED``.

    Raises:
        DataError: If a label holds other values, or a JPEG label only values too dark for change.
    """
    lossy, near = path.suffix.lower() in LOSSY, NEAR if scale > 1 else 0
    stored = known(label, ignored)
    largest = int(stored.max(initial=0))
    if 0 < largest <= (FAINT if lossy else near):
        raise DataError(f"{path}: label of values up to {largest}, expected 0 and {scale}")
    if not lossy:
        values = np.flatnonzero(np.bincount(stored.ravel()))
        if scale > 1 and [*values[values > 0]] == [1, largest]:
            raise DataError(
                f"{path}: label of values 0, 1 and {largest}; ctma cannot tell whether {largest} "
                f"means change or no label; write change as {scale} and stillness as 0, or "
                f"give {path.stem}.tif the nodata value {largest} for no label"
            )
        odd = values[(values > near) & (values < scale - near) | (values > scale)]
        if len(odd):
            listed = ", ".join(map(str, odd[:4])) + (", …" if len(odd) > 4 else "")
            plural = "s" * (len(odd) > 1)
            raise DataError(f"{path}: label of value{plural} {listed}, expected 0 and {scale}")
    change = (label > scale // 2).astype(np.uint8)
    if ignored is not None:
        change[label == ignored] = IGNORED
    return change


def count_between(label: Pixels, scale: int) -> int:
    """Counts the pixels of a stored label that are neither exactly 0 nor exactly ``scale``."""
    return int(np.count_nonzero((label != 0) & (label != scale)))


def size_text(image: NDArray[Any]) -> str:
    """Formats height and width for a message."""
    return f"{image.shape[0]} x {image.shape[1]}"

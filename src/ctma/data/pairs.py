"""Pairs on disk, and their labels as 0 and 1."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
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

LOOKED_AT = 64
"""Number of labels with change from which ctma learns how a data set stores labels."""

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


@dataclass(frozen=True)
class Coding:
    """The stored values of the labels of a data set.

    Attributes:
        change: The value of change, 1 or 255.
        ignored: The value of pixels without a label, or ``None``.
    """

    change: int = 255
    ignored: int | None = None

    def at(self, path: Path) -> Coding:
        """The coding of one file of the data set; a JPEG is always 0/255."""
        return Coding() if path.suffix.lower() in LOSSY else self

    def __str__(self) -> str:
        ignored = "" if self.ignored is None else f", {self.ignored} for no label"
        return f"0/{self.change}{ignored}"


def read_colours(path: Path, date: int) -> Pixels:
    """Reads an image of 8-bit colours, whatever its date; see ``read_image``."""
    del date
    return read_image(path)


def pair_files(pairs: Iterable[Pair]) -> Iterator[Path]:
    """Yields all files of some pairs, pair by pair."""
    for pair in pairs:
        yield from (path for path in (pair.before, pair.after, pair.change) if path is not None)


def read_sample(pair: Pair, coding: Coding, read: ReadDate = read_colours) -> Sample:
    """Reads both images and the label of a pair.

    Args:
        pair: A labelled pair.
        coding: The stored values of the labels; see ``find_coding``.
        read: Reads an image of one date.

    Raises:
        ImageError: If a file is unreadable or the sizes differ.
        DataError: If the pair has no label, or the label holds other values.
    """
    before, after = read_pair(pair, read)
    if pair.change is None:
        raise DataError(f"{pair.before}: this pair has no label")
    change = read_change(pair.change, coding)
    if change.shape != before.shape[:2]:
        raise ImageError(
            f"{pair.change}: label of {size_text(change)}, its images are {size_text(before)}"
        )
    return before, after, change


def read_change(path: Path, coding: Coding) -> Pixels:
    """Reads a label, (H, W): 0, 1 or ``IGNORED``.

    Args:
        path: File of the label. The nodata value of a GeoTIFF marks pixels without a label.
        coding: The stored values of the labels; see ``find_coding``.

    Raises:
        ImageError: If the file is unreadable.
        DataError: If the label holds other values.
    """
    return binary_label(read_label(path), coding, path, read_ignored(path))


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


def find_coding(pairs: Sequence[Pair], *, tolerant: bool = False) -> Coding:
    """Finds whether a data set stores labels as 0/1 or as 0/255.

    The first label with any change decides. One exception: if the first ``LOOKED_AT`` such labels
    hold 1, 255 or both, and no 255 without a 1, then 1 is change and 255 is no label. JPEG labels
    are always 0/255, because compression destroys 0/1 labels.

    Args:
        pairs: Pairs of one data set.
        tolerant: Skip unreadable labels.

    Returns:
        The coding; 0/255 if no label contains change.
    """
    seen: list[set[int]] = []
    for values in islice(_label_values(pairs, tolerant), LOOKED_AT):
        seen.append(values)
        if values not in ({1}, {1, IGNORED}):
            return Coding(1 if seen[0] == {1} else 255)
    if {1, IGNORED} in seen:
        return Coding(1, IGNORED)
    return Coding(1 if seen else 255)


def _label_values(pairs: Sequence[Pair], tolerant: bool) -> Iterator[set[int]]:
    """The values above 0 of each label that has some, JPEG labels aside."""
    for pair in pairs:
        if pair.change is None or pair.change.suffix.lower() in LOSSY:
            continue
        try:
            stored = known(read_label(pair.change), read_ignored(pair.change))
        except ImageError:
            if not tolerant:
                raise
            continue
        if values := {*np.flatnonzero(np.bincount(stored.ravel())).tolist()} - {0}:
            yield values


def known(label: Pixels, ignored: int | None) -> Pixels:
    """The stored values of the pixels that have a label, (N,) or the label itself."""
    return label if ignored is None else label[label != ignored]


def binary_label(label: Pixels, coding: Coding, path: Path, ignored: int | None = None) -> Pixels:
    """Converts a stored label; training, scoring and the doctor all use this rule.

    Values near 0 count as 0 and values near 255 as 255. For a JPEG, every value counts as the
    nearer of the two, whatever the coding.

    Args:
        label: The stored label, (H, W).
        coding: The stored values of the labels of the data set.
        path: File of the label, for error messages and to recognise lossy formats.
        ignored: The value of pixels without a label that the file names; see ``read_ignored``.

    Returns:
        (H, W): 0, 1 or ``IGNORED``.

    Raises:
        DataError: If a label holds other values, or a JPEG label only values too dark for change,
            or no 1 beside the value that elsewhere means no label.
    """
    coding, lossy = coding.at(path), path.suffix.lower() in LOSSY
    scale, near = coding.change, NEAR if coding.change > 1 else 0
    if ignored is None and coding.ignored is not None:
        ignored = coding.ignored
        _refuse_doubtful(label, ignored, path)
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


def _refuse_doubtful(label: Pixels, ignored: int, path: Path) -> None:
    """Refuses a label of 0 and 255 alone among labels of 0, 1 and 255."""
    if ignored in label and 1 not in label:
        raise DataError(
            f"{path}: label of 0 and {ignored} among labels of 0, 1 and {ignored}; ctma cannot "
            f"tell whether {ignored} means change or no label here; give {path.stem}.tif the "
            f"nodata value {ignored} for no label"
        )


def refuse_unlike(training: Coding, validation: Coding) -> None:
    """Refuses splits of one data set, one of which has a value for no label.

    Raises:
        DataError: If 255 would mean no label in one split and change in the other.
    """
    if training.change != validation.change and (training.ignored or validation.ignored):
        raise DataError(
            f"training labels are stored as {training}, validation labels as {validation}; write "
            "255 in both for the same"
        )


def count_between(label: Pixels, scale: int) -> int:
    """Counts the pixels of a stored label that are neither exactly 0 nor exactly ``scale``."""
    return int(np.count_nonzero((label != 0) & (label != scale)))


def size_text(image: NDArray[Any]) -> str:
    """Formats height and width for a message."""
    return f"{image.shape[0]} x {image.shape[1]}"

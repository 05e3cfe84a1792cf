"""The doctor: finds problems of a data set before training."""

from __future__ import annotations

from collections.abc import Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ctma.data.footprints import find_shared_ground
from ctma.data.images import read_ignored, read_label
from ctma.data.layouts import Layout, Location
from ctma.data.pairs import (
    FAINT,
    LOSSY,
    Coding,
    Pair,
    binary_label,
    count_between,
    find_coding,
)
from ctma.data.rasters import read_any
from ctma.data.readers import files_by_role, find_locations, own_splits
from ctma.errors import DataError, ImageError
from ctma.types import IGNORED, MINIMUM_SIZE, Progress, ignore

HASH_SIDE = 16
LARGEST_DISTANCE = 0.18
"""Largest share of differing hash bits for two images of the same scene."""

CROP = 256
"""Side of the crops that the recipes cut from training pairs, in pixels."""

THUMBNAIL = 64
BLANK_DEVIATION = 1.0
"""Standard deviation, in grey levels, below which an image is blank."""


@dataclass(frozen=True)
class Finding:
    """One problem of a data set.

    Attributes:
        kind: Kind of the problem: one of ``missing split``, ``empty split``, ``missing folder``,
            ``small pairs``, ``unreadable``, ``missing partner``, ``unequal sizes``,
            ``unequal bands``, ``label values``, ``unvaried``, ``blank``, ``identical``,
            ``shared scene``, ``shared ground``, ``near ground``.
        where: The split, or the pair as ``split/name``; for a shared scene two pairs.
        what: A description of one line.
        severity: ``error`` stops or falsifies a training, ``warning`` deserves a look.
    """

    kind: str
    where: str
    what: str
    severity: str = "error"


@dataclass
class Diagnosis:
    """The results of the doctor.

    Attributes:
        pairs: Number of complete pairs in each split.
        label_scale: Stored value of change, 1 or 255, in the whole data set.
        label_ignored: Stored value of pixels without a label, where all labels share one;
            nodata values of GeoTIFFs count beside it.
        changed_share: Share of changed pixels among those with a label, in each split with
            readable labels.
        ignored_share: Share of pixels without a label in each of these splits.
        between: Number of label pixels that are neither exactly 0 nor exactly the value of
            change. ctma rounds these pixels to the nearer of the two values.
        findings: All problems.
    """

    pairs: dict[str, int] = field(default_factory=dict)
    label_scale: int = 255
    label_ignored: int | None = None
    changed_share: dict[str, float] = field(default_factory=dict)
    ignored_share: dict[str, float] = field(default_factory=dict)
    between: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def coding(self) -> Coding:
        """The stored values of the labels in the whole data set."""
        return Coding(self.label_scale, self.label_ignored)

    @property
    def errors(self) -> list[Finding]:
        """The findings that stop or falsify a training."""
        return [finding for finding in self.findings if finding.severity == "error"]


def check(
    root: str | Path,
    *,
    folders: str | None = None,
    on_progress: Progress = ignore,
) -> Diagnosis:
    """Examines a data folder.

    Args:
        root: The data folder, in any layout that ``find_pairs`` reads.
        folders: As in ``find_pairs``.
        on_progress: Called after every pair with the number of finished pairs and of all pairs.

    Raises:
        DataError: If the folder holds no pairs.
    """
    diagnosis = Diagnosis()
    splits = _whole_pairs(Path(root), Layout(folders), diagnosis)
    everything = [(split, pair) for split, pairs in splits.items() for pair in pairs]
    coding = find_coding([pair for _, pair in everything], tolerant=True)
    diagnosis.label_scale, diagnosis.label_ignored = coding.change, coding.ignored
    reports: list[_Report] = []
    with ThreadPoolExecutor() as pool:
        for report in pool.map(lambda item: _inspect(item[0], item[1], coding), everything):
            reports.append(report)
            on_progress(len(reports), len(everything))
    for report in reports:
        diagnosis.findings += report.findings
    for split in splits:
        counts = [report.counts for report in reports if report.split == split and report.counts]
        if counts:
            changed, labelled, pixels = (sum(column) for column in zip(*counts, strict=True))
            diagnosis.changed_share[split] = changed / max(labelled, 1)
            diagnosis.ignored_share[split] = 1 - labelled / pixels
    diagnosis.between = sum(report.between for report in reports)
    sizes = [report.size for report in reports if report.split == "train" and report.size]
    diagnosis.findings += [
        *_missing_splits(Path(root), splits), *_small_pairs(sizes), *_unvaried(diagnosis),
        *_unlike_bands(reports), *_shared_scenes(reports), *_shared_ground(splits),
    ]  # fmt: skip
    return diagnosis


@dataclass
class _Report:
    """The results of the doctor for one pair.

    Attributes:
        split: The split of the pair.
        name: The name of the pair.
        findings: Problems of this pair alone.
        counts: Number of changed pixels, of pixels with a label, and of all pixels; ``None``
            without a readable label.
        between: Number of label pixels that are neither exactly 0 nor exactly the value of change.
        size: Height and width, if both dates and the label have the same size.
        hashes: (8, 2, words) uint64: hashes of before and after for each flip and rotation;
            ``None`` for a pair whose images were not hashed, such as a blank pair.
        bands: The names of the images' bands.
    """

    split: str
    name: str
    findings: list[Finding] = field(default_factory=list)
    counts: tuple[int, int, int] | None = None
    between: int = 0
    size: tuple[int, int] | None = None
    hashes: NDArray[np.uint64] | None = None
    bands: tuple[str, ...] = ()

    def add(self, kind: str, what: str, severity: str = "error") -> None:
        self.findings.append(Finding(kind, f"{self.split}/{self.name}", what, severity))


def _whole_pairs(root: Path, layout: Layout, diagnosis: Diagnosis) -> dict[str, list[Pair]]:
    """Finds the complete pairs of each split; each incomplete pair becomes a finding."""
    splits = own_splits(root)
    if splits:
        diagnosis.pairs = {split: len(pairs) for split, pairs in splits.items()}
        return splits
    for split, location in find_locations(root, layout).items():
        files = files_by_role(location)
        names = location.names
        if absent := _missing_folders(location, layout):
            diagnosis.findings.append(Finding("missing folder", split, absent))
            diagnosis.pairs[split], splits[split] = 0, []
            continue
        expected_names = set(names) if names is not None else set().union(*files.values())
        splits[split] = []
        for name in sorted(expected_names):
            lacking = [kind for kind, images in files.items() if name not in images]
            if lacking:
                what = f"no {' and no '.join(lacking)}"
                diagnosis.findings.append(Finding("missing partner", f"{split}/{name}", what))
            else:
                paths = (files[kind][name] for kind in ("before", "after", "change"))
                splits[split].append(Pair(name, *paths))
        diagnosis.pairs[split] = len(splits[split])
        if not expected_names:
            diagnosis.findings.append(
                Finding("empty split", split, f"{location.folder}: no pairs here")
            )
    return splits


def _missing_folders(location: Location, layout: Layout) -> str:
    """A message about a missing folder of a split; empty if no folder is missing."""
    if location.change is None:
        return f"{location.folder}: no labels, expected a folder {' or '.join(layout.label_names)}"
    return "" if location.after.is_dir() else f"{location.after}: no such folder"


def _missing_splits(root: Path, splits: Container[str]) -> Iterator[Finding]:
    """Finds splits that training needs but the folder lacks, with a hint at the likely cause."""
    folders = sorted(path.name for path in root.iterdir() if path.is_dir())
    for split, purpose in (("train", "is trained on"), ("val", "the best checkpoint is picked on")):
        if split in splits:
            continue
        what = f"{root}: no split of that name, which {purpose}; there is {', '.join(folders)}"
        if (root / f"{split}.txt").is_file():
            what = f"{root / f'{split}.txt'}: lists of names are read in {root / 'list'}"
        yield Finding("missing split", split, what)


def _small_pairs(sizes: list[tuple[int, int]]) -> Iterator[Finding]:
    """Finds training pairs that are too small for cropping, or for crops of equal size."""
    least = min((min(size) for size in sizes), default=CROP)
    cropped = {(min(height, CROP), min(width, CROP)) for height, width in sizes}
    if least < MINIMUM_SIZE:
        what = f"down to {least} pixels, training takes {MINIMUM_SIZE} and more"
        yield Finding("small pairs", "train", what)
    elif len(cropped) > 1 or any(height != width for height, width in cropped):
        what = f"not all reach the crop of {CROP} pixels; train with data.crop_size={least}"
        yield Finding("small pairs", "train", what)


def _inspect(split: str, pair: Pair, coding: Coding) -> _Report:
    report = _Report(split, pair.name)
    if pair.change is None:
        report.add("missing partner", "no change")
        return report
    try:
        (before, after), names = zip(*map(read_any, (pair.before, pair.after)), strict=True)
        change = read_label(pair.change)
    except ImageError as error:
        report.add("unreadable", str(error))
        return report
    sizes = {image.shape[:2] for image in (before, after, change)}
    if len(sizes) > 1:
        texts = ", ".join(f"{height} x {width}" for height, width in sorted(sizes))
        report.add("unequal sizes", texts)
        return report
    if names[0] != names[1]:
        report.add("unequal bands", f"{', '.join(names[0])} before, {', '.join(names[1])} after")
        return report
    (report.size,) = sizes
    report.bands = names[0]
    _inspect_label(report, change, pair.change, coding)
    blank = [
        date
        for date, image in (("before", before), ("after", after))
        if image.std(axis=(0, 1)).max() < BLANK_DEVIATION
    ]
    if blank:
        report.add("blank", f"{' and '.join(blank)} of one colour")
        return report
    if np.array_equal(before, after):
        severity = "error" if report.counts and report.counts[0] else "warning"
        report.add("identical", "before and after are the same image", severity)
    dates = ([_hash(image) for image in _turns(date)] for date in (before, after))
    report.hashes = np.stack(list(dates), axis=1).reshape(8, 2, -1)
    return report


def _inspect_label(report: _Report, change: NDArray[Any], path: Path, coding: Coding) -> None:
    ignored = read_ignored(path)
    try:
        binary = binary_label(change, coding, path, ignored)
    except DataError as error:
        report.add("label values", str(error).removeprefix(f"{path}: "))
        return
    changed, labelled = int((binary == 1).sum()), int((binary != IGNORED).sum())
    report.counts = changed, labelled, binary.size
    report.between = count_between(change[binary != IGNORED], coding.at(path).change)
    if ignored == coding.change and changed == 0 and (change == ignored).any():
        what = f"every marked pixel has the nodata value {ignored}, so it counts as no label"
        report.add("label values", what, "warning")
    faded = int(((change > FAINT) & (binary == 0)).sum())
    if path.suffix.lower() in LOSSY and faded > changed:
        report.add(
            "label values",
            f"{faded / labelled:.1%} of the pixels are grey and count as no change, "
            f"{changed / labelled:.1%} are bright and count as change; store change as 255",
            "warning",
        )


def _unvaried(diagnosis: Diagnosis) -> Iterator[Finding]:
    """Finds splits in which no pixel is change, or every pixel is change."""
    for split, share in diagnosis.changed_share.items():
        if diagnosis.pairs[split] and share in (0, 1):
            what = "no pixel is change" if share == 0 else "every pixel is change"
            yield Finding("unvaried", split, what, "warning")


def _unlike_bands(reports: list[_Report]) -> Iterator[Finding]:
    """Finds pairs with other bands than the first pair."""
    known = [report for report in reports if report.bands]
    for report in known:
        if report.bands != known[0].bands:
            first = f"{known[0].split}/{known[0].name} has {', '.join(known[0].bands)}"
            what = f"{', '.join(report.bands)}, but {first}"
            yield Finding("unequal bands", f"{report.split}/{report.name}", what)


def _turns(image: NDArray[np.uint8]) -> Iterator[Image.Image]:
    """Yields a small grey version of an image in all eight flips and rotations."""
    small = Image.fromarray(image).convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    yield small
    for turn in Image.Transpose:
        yield small.transpose(turn)


def _hash(image: Image.Image) -> NDArray[np.uint64]:
    return np.packbits(imagehash.phash(image, hash_size=HASH_SIDE).hash).view(np.uint64)


def _shared_scenes(reports: list[_Report]) -> Iterator[Finding]:
    """Finds pairs of different splits that look alike in some flip or rotation."""
    by_split: dict[str, list[_Report]] = {}
    for report in reports:
        if report.hashes is not None:
            by_split.setdefault(report.split, []).append(report)
    for (split, mine), (other, theirs) in combinations(by_split.items(), 2):
        plain = np.stack([report.hashes[0] for report in theirs])  # type: ignore[index]
        for report in mine:
            assert report.hashes is not None
            distances = _distances(report.hashes, plain)
            for place in np.flatnonzero(distances <= LARGEST_DISTANCE):
                where = f"{split}/{report.name} and {other}/{theirs[place].name}"
                what = f"the same scene in {split} and {other}"
                yield Finding("shared scene", where, what)


def _shared_ground(splits: dict[str, list[Pair]]) -> Iterator[Finding]:
    """Finds georeferenced pairs of two splits that share ground, or lie near each other."""
    for first, second, gap in find_shared_ground(splits):
        where = f"{first.name} and {second.name}"
        if gap < 0:
            yield Finding("shared ground", where, "two splits see the same ground")
        else:
            side = min(first.width, first.height)
            what = f"{gap:.0f} pixels apart, less than the side of {side}"
            yield Finding("near ground", where, what, "warning")


def _distances(turned: NDArray[np.uint64], plain: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Smallest share of differing bits over all turns, for each pair of the other split.

    Both dates must look alike, in the same or in swapped order.
    """
    straight, swapped = (
        np.bitwise_count(dates[None] ^ plain[:, None]).sum(axis=-1).max(axis=-1).min(axis=-1)
        for dates in (turned, turned[:, ::-1])
    )
    return np.minimum(straight, swapped) / HASH_SIDE**2

"""Finds the pairs of a data folder in any known layout."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from ctma.data.images import SUFFIXES
from ctma.data.layouts import SPLITS, Layout, Location, check_folder, find_oscd, pair_name
from ctma.data.pairs import Pair, pair_files
from ctma.errors import DataError
from ctma.files import file_fingerprint, fingerprint
from ctma.plugins import READERS, find_extensions

Reader = Callable[[Path, str], list[Pair] | None]


def find_pairs(root: str | Path, split: str, *, folders: str | None = None) -> list[Pair]:
    """Finds the pairs of one split, in any known layout.

    The known layouts are:

    - SVCD: ``Real/subset/SPLIT/{A,B,OUT}``. For another subset, give the folder of the subset,
      such as ``Model/with_shift``.
    - LEVIR-CD and LEVIR-CD+ (raw or cut) and WHU-CD (cut): ``SPLIT/{A,B,label}``.
    - S2Looking: ``SPLIT/{Image1,Image2,label}``.
    - SYSU-CD and CLCD: ``SPLIT/{time1,time2,label}``.
    - DSIFN: ``SPLIT/{t1,t2,mask}``.
    - GZ-CD: ``{T1,T2,labels_change}``.
    - OSCD: the unpacked archives.
    - Any of these folders with lists of names, ``list/SPLIT.txt``; without lists and splits, all
      pairs are the split ``all``.

    Readers that ``ctma.register`` added have priority over these layouts.

    Args:
        root: The data set's folder, its parent folder or a folder within the data set.
        split: ``"train"``, ``"val"``, ``"test"`` or ``"all"``. ``"all"`` finds the pairs of all
            splits and names the pairs ``SPLIT/NAME`` if the data set has splits.
        folders: Folder names of another layout, as ``"before=X,after=Y,change=Z"``.

    Returns:
        The pairs, sorted by name.

    Raises:
        DataError: If the folder or split is missing or empty, or a file of a pair is missing.
        SettingError: If ``folders`` has another form.
    """
    layout = Layout(folders)
    folder = check_folder(root)
    pairs = _ask_readers(folder, split)
    if pairs is not None:
        return pairs
    root = layout.find_root(folder)
    location = layout.locate(root, split)
    if location is not None:
        return _complete(location, layout)
    if split == "all" and (several := _find_all(root, layout)):
        return several
    if any(root.rglob("before.tif")):
        raise DataError(f"{root}: raw WHU-CD, cut it first with: ctma prepare whu-cd {root} DST")
    there = ", ".join(layout.locations(root))
    raise DataError(
        f"{root}: no split {split!r} here"
        + (f", there is {there}" if there else "")
        + f"; expected {split}/A, {split}/B and {split}/label, or A, B and label with "
        f"list/{split}.txt, or other names as `folders`"
    )


def find_locations(root: str | Path, layout: Layout) -> dict[str, Location]:
    """Finds the folders of each split, by name; ``all`` for a data folder without splits.

    Raises:
        DataError: If the folder holds no pairs.
    """
    root = layout.find_root(check_folder(root))
    locations = layout.locations(root)
    if not locations:
        raise DataError(
            f"{root}: no pairs here, expected SPLIT/A and SPLIT/B, or A and B, or other names as "
            "`folders`"
        )
    return locations


def own_splits(root: str | Path) -> dict[str, list[Pair]]:
    """Finds the pairs of each split with registered readers and the OSCD reader; else empty.

    Raises:
        DataError: If the folder does not exist.
    """
    root = check_folder(root)
    by_split = {split: _ask_readers(root, split) for split in SPLITS}
    return {split: pairs for split, pairs in by_split.items() if pairs is not None}


def find_data_name(data: str | Path) -> str:
    """The name of a data folder, also of ``.``; a link keeps its own name."""
    return Path(os.path.abspath(data)).name


def data_fingerprint(pairs: Iterable[Pair]) -> str:
    """Computes a short hash of the names and the file contents of some pairs."""
    files = [(pair.name, path) for pair in pairs for path in pair_files([pair])]
    return fingerprint(f"{name} {file_fingerprint(path)}" for name, path in files)


def files_by_role(location: Location) -> dict[str, dict[str, Path]]:
    """Lists the image files of a split for ``before``, ``after`` and ``change``, by pair name."""
    return {
        "before": images_by_name(location.before),
        "after": images_by_name(location.after),
        "change": images_by_name(location.change) if location.change else {},
    }


def images_by_name(folder: Path) -> dict[str, Path]:
    """Lists the image files below a folder, by relative path without suffix.

    Raises:
        DataError: If two files differ only in their suffix.
    """
    images: dict[str, Path] = {}
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in files:
            path = Path(parent, file)
            if path.suffix.lower() in SUFFIXES and not file.startswith("."):
                name = pair_name(path.relative_to(folder))
                if name in images:
                    raise DataError(f"{path}: and {images[name].name} have the same name")
                images[name] = path
    return images


def _ask_readers(root: Path, split: str) -> list[Pair] | None:
    for name, reader in _readers():
        pairs = reader(root, split)
        if pairs is None:
            continue
        pairs = [*pairs] if isinstance(pairs, Iterable) else [pairs]
        if not pairs:
            raise DataError(f"{root}: the reader {name} finds no pair of the split {split}")
        _check_pairs(pairs, name)
        _require_files(pairs, name)
        return sorted(pairs, key=lambda pair: pair.name)
    return None


def _readers() -> Iterator[tuple[str, Reader]]:
    for name, load in find_extensions(READERS).items():
        yield name, load()
    yield "oscd", _read_oscd


def _read_oscd(root: Path, split: str) -> list[Pair] | None:
    cities = find_oscd(root, split)
    return None if cities is None else [Pair(*files) for files in cities]


def _check_pairs(pairs: list[Pair], reader: str) -> None:
    """Refuses objects that are not pairs, repeated names, and names that lead out of a folder."""
    names: set[str] = set()
    for pair in pairs:
        if not isinstance(pair, Pair) or not isinstance(pair.before, Path):
            raise DataError(f"the reader {reader} gave {pair!r}, expected ctma.Pair with Paths")
        if pair.name in names or Path(pair.name).is_absolute() or ".." in Path(pair.name).parts:
            raise DataError(f"the reader {reader} gave a pair {pair.name!r}: twice, or no name")
        names.add(pair.name)


def _require_files(pairs: list[Pair], reader: str) -> None:
    for pair in pairs:
        for path in (pair.before, pair.after, pair.change):
            if path is None or not path.is_file():
                missing = "its label" if path is None else str(path)
                raise DataError(f"{pair.name}: {missing} is missing, says the reader {reader}")


def _find_all(root: Path, layout: Layout) -> list[Pair]:
    """Finds the pairs of all splits and names each pair ``SPLIT/NAME``."""
    return [
        replace(pair, name=f"{split}/{pair.name}")
        for split, location in layout.locations(root).items()
        for pair in _complete(location, layout)
    ]


def _complete(location: Location, layout: Layout) -> list[Pair]:
    folder, names = location.folder, location.names
    before, after, change = files_by_role(location).values()
    pair_names = sorted(names if names is not None else before)
    if not pair_names:
        where = f"{location.before.name} holds no image" if names is None else "its list is empty"
        raise DataError(f"{folder}: no pairs here, {where}")
    doubled = [name for name, following in pairwise(pair_names) if name == following]
    if doubled:
        raise DataError(f"{folder}: its list names {doubled[0]} twice")
    _require(pair_names, before, location.before)
    _require(pair_names, after, location.after)
    if names is None:
        _require(sorted(after), before, location.before)
    if location.change is None:
        expected = " or ".join(layout.label_names)
        raise DataError(f"{folder}: no labels, expected a folder {expected}")
    _require(pair_names, change, location.change)
    return [Pair(name, before[name], after[name], change[name]) for name in pair_names]


def _require(wanted: list[str], have: dict[str, Path], folder: Path) -> None:
    missing = [name for name in wanted if name not in have]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{folder}: {missing[0]}{more} missing here, its partner is not")

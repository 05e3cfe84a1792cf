"""The pairs of a data folder, whatever its layout."""

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
    """Finds the pairs of one split, whatever the layout.

    Understood are SVCD (``Real/subset/SPLIT/{A,B,OUT}``; its other sub-sets by their own folders,
    such as ``Model/with_shift``),
    LEVIR-CD and LEVIR-CD+ raw or cut and WHU-CD cut (``SPLIT/{A,B,label}``), S2Looking
    (``SPLIT/{Image1,Image2,label}``), SYSU-CD and CLCD (``SPLIT/{time1,time2,label}``), DSIFN
    (``SPLIT/{t1,t2,mask}``), GZ-CD (``{T1,T2,labels_change}``), OSCD as its archives are
    unpacked, and any such folders with a ``list/SPLIT.txt`` of names, or with none as split
    ``all``. Readers that were added by ``ctma.register`` are asked first.

    Args:
        root: The data set's folder, the one above or one within it.
        split: ``"train"``, ``"val"``, ``"test"``, or ``"all"``: whatever is there, named
            ``SPLIT/NAME`` where there are splits.
        folders: Of another layout, ``"before=X,after=Y,change=Z"``: what its folders are called.

    Returns:
        The pairs, sorted by name.

    Raises:
        DataError: If the folder or split is not there, is empty, or a partner is missing.
        SettingError: If ``folders`` cannot be meant.
    """
    layout = Layout(folders)
    given = check_folder(root)
    own = _ask_readers(given, split)
    if own is not None:
        return own
    root = layout.find_root(given)
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
    """Where each split of a data folder is, by name; ``all`` where it has no splits.

    Raises:
        DataError: If nothing there looks like pairs.
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
    """The pairs of each split where a reader of its own knows the folder.

    Raises:
        DataError: If there is no such folder.
    """
    root = check_folder(root)
    found = {split: _ask_readers(root, split) for split in SPLITS}
    return {split: pairs for split, pairs in found.items() if pairs is not None}


def data_fingerprint(pairs: Iterable[Pair]) -> str:
    """A short hash of the names and the contents of all files of some pairs."""
    files = [(pair.name, path) for pair in pairs for path in pair_files([pair])]
    return fingerprint(f"{name} {file_fingerprint(path)}" for name, path in files)


def files_by_role(location: Location) -> dict[str, dict[str, Path]]:
    """Image files of ``before``, ``after`` and ``change`` of a split, by pair name."""
    return {
        "before": images_by_name(location.before),
        "after": images_by_name(location.after),
        "change": images_by_name(location.change) if location.change else {},
    }


def images_by_name(folder: Path) -> dict[str, Path]:
    """Image files below a folder by their path without suffix.

    Raises:
        DataError: If two files have the same name but for their suffix.
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
    found = find_oscd(root, split)
    return None if found is None else [Pair(*files) for files in found]


def _check_pairs(pairs: list[Pair], reader: str) -> None:
    """Refuses what is no pair, and names that are not one's own or lead out of a folder."""
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
    """The pairs of all splits, named by split and name."""
    return [
        replace(pair, name=f"{split}/{pair.name}")
        for split, location in layout.locations(root).items()
        for pair in _complete(location, layout)
    ]


def _complete(location: Location, layout: Layout) -> list[Pair]:
    folder, names = location.folder, location.names
    before, after, change = files_by_role(location).values()
    wanted = sorted(names if names is not None else before)
    if not wanted:
        where = f"{location.before.name} holds no image" if names is None else "its list is empty"
        raise DataError(f"{folder}: no pairs here, {where}")
    doubled = [name for name, following in pairwise(wanted) if name == following]
    if doubled:
        raise DataError(f"{folder}: its list names {doubled[0]} twice")
    _require(wanted, before, location.before)
    _require(wanted, after, location.after)
    if names is None:
        _require(sorted(after), before, location.before)
    if location.change is None:
        expected = " or ".join(layout.label_names)
        raise DataError(f"{folder}: no labels, expected a folder {expected}")
    _require(wanted, change, location.change)
    return [Pair(name, before[name], after[name], change[name]) for name in wanted]


def _require(wanted: list[str], have: dict[str, Path], folder: Path) -> None:
    missing = [name for name in wanted if name not in have]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{folder}: {missing[0]}{more} missing here, its partner is not")

"""Where each data set keeps its pairs.

A data set's own folder names (A, B, label, OUT) are known here and nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from ctma.data.images import SUFFIXES
from ctma.data.pairs import Pair, pair_files
from ctma.errors import DataError, SettingError
from ctma.files import file_fingerprint, fingerprint
from ctma.plugins import READERS, find_extensions

SPLITS = ("train", "val", "test")
SVCD_SUBSETS = {
    "real": Path("Real/subset"),
    "with_shift": Path("Model/with_shift"),
    "without_shift": Path("Model/without_shift"),
}
_LABEL_FOLDERS = ("label", "OUT", "mask")
_DATE_FOLDERS = (("A", "B"), ("Image1", "Image2"), ("time1", "time2"), ("t1", "t2"))
"""Of LEVIR-CD, SVCD and others; of S2Looking; of SYSU-CD and CLCD; of DSIFN."""


class Location(NamedTuple):
    """Where the pairs of one split are.

    Attributes:
        folder: Holds A, B and the labels.
        names: Which of them belong to the split, ``None`` for all.
    """

    folder: Path
    names: list[str] | None = None


def find_pairs(root: str | Path, split: str, *, subset: str = "real") -> list[Pair]:
    """Finds the pairs of one split, whatever the layout.

    Understood are SVCD (``Real/subset/SPLIT/{A,B,OUT}`` and the two ``Model`` sub-sets),
    LEVIR-CD raw or cut and WHU-CD cut (``SPLIT/{A,B,label}``), S2Looking
    (``SPLIT/{Image1,Image2,label}``), SYSU-CD and CLCD (``SPLIT/{time1,time2,label}``), DSIFN
    (``SPLIT/{t1,t2,mask}``), and any such folders with a ``list/SPLIT.txt`` of names, or with
    none as split ``all``. Readers that were added by ``ctma.register`` are asked first.

    Args:
        root: The data set's folder.
        split: ``"train"``, ``"val"``, ``"test"``, or ``"all"``: whatever is there, named
            ``SPLIT/NAME`` where there are splits.
        subset: For SVCD, ``"real"``, ``"with_shift"`` or ``"without_shift"``.

    Returns:
        The pairs, sorted by name.

    Raises:
        DataError: If the folder or split is not there, is empty, or a partner is missing.
    """
    root = _folder(root)
    own = _ask_own_readers(root, split)
    if own is not None:
        return own
    location = _locate(root, split, subset)
    if location is not None:
        return _complete(location)
    if split == "all" and (several := _find_all(root, subset)):
        return several
    if (root / "before/before.tif").exists():
        raise DataError(f"{root}: raw WHU-CD, cut it first with: ctma prepare whu-cd {root} DST")
    raise DataError(
        f"{root}: no split {split!r} here; expected {split}/A, {split}/B and {split}/label, "
        f"or A, B and label with list/{split}.txt"
    )


def _find_all(root: Path, subset: str) -> list[Pair]:
    """The pairs of all splits, named by split and name."""
    found = {name: _locate(root, name, subset) for name in SPLITS}
    return [
        replace(pair, name=f"{split}/{pair.name}")
        for split, location in found.items()
        if location is not None
        for pair in _complete(location)
    ]


def split_locations(root: str | Path, *, subset: str = "real") -> dict[str, Location]:
    """Where each split of a data folder is, by name; ``all`` where it has no splits.

    Raises:
        DataError: If nothing there looks like pairs.
    """
    root = _folder(root)
    found = {name: _locate(root, name, subset) for name in SPLITS}
    locations = {name: location for name, location in found.items() if location is not None}
    if not locations and (bare := _bare(root, "all", subset)) is not None:
        locations = {"all": bare}
    if not locations:
        raise DataError(f"{root}: no pairs here, expected SPLIT/A and SPLIT/B, or A and B")
    return locations


def own_splits(root: str | Path) -> dict[str, list[Pair]]:
    """The pairs of each split where a reader added by ``ctma.register`` knows the folder.

    Raises:
        DataError: If there is no such folder.
    """
    root = _folder(root)
    found = {split: _ask_own_readers(root, split) for split in SPLITS}
    return {split: pairs for split, pairs in found.items() if pairs is not None}


def data_fingerprint(pairs: Iterable[Pair]) -> str:
    """A short hash of the names and the contents of all files of some pairs."""
    files = [(pair.name, path) for pair in pairs for path in pair_files([pair])]
    return fingerprint(f"{name} {file_fingerprint(path)}" for name, path in files)


def files_by_role(folder: Path) -> dict[str, dict[str, Path]]:
    """Image files of ``before``, ``after`` and ``change`` below a folder, by pair name."""
    labels = _label_folder(folder)
    before, after = _date_folders(folder) or _DATE_FOLDERS[0]
    return {
        "before": images_by_name(folder / before),
        "after": images_by_name(folder / after),
        "change": images_by_name(labels) if labels else {},
    }


def _label_folder(folder: Path) -> Path | None:
    return next((folder / name for name in _LABEL_FOLDERS if (folder / name).is_dir()), None)


def _date_folders(folder: Path) -> tuple[str, str] | None:
    """Names of the folders of both dates, ``None`` where there is none of before."""
    return next((names for names in _DATE_FOLDERS if (folder / names[0]).is_dir()), None)


def _folder(root: str | Path) -> Path:
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such data folder")
    return root


def _ask_own_readers(root: Path, split: str) -> list[Pair] | None:
    for name, reader in find_extensions(READERS).items():
        pairs = reader()(root, split)
        if pairs is None:
            continue
        if not pairs:
            raise DataError(f"{root}: the reader {name} finds no pair of the split {split}")
        _require_files(pairs, name)
        return sorted(pairs, key=lambda pair: pair.name)
    return None


def _require_files(pairs: list[Pair], reader: str) -> None:
    for pair in pairs:
        for path in (pair.before, pair.after, pair.change):
            if path is None or not path.is_file():
                missing = "its label" if path is None else str(path)
                raise DataError(f"{pair.name}: {missing} is missing, says the reader {reader}")


def _locate(root: Path, split: str, subset: str) -> Location | None:
    for reader in (_svcd, _split_folder, _listed, _bare):
        location = reader(root, split, subset)
        if location is not None:
            return location
    return None


def _svcd(root: Path, split: str, subset: str) -> Location | None:
    if not any((root / path).is_dir() for path in SVCD_SUBSETS.values()):
        return None
    if subset not in SVCD_SUBSETS:
        raise SettingError(f"`subset` {subset!r}: is none of {', '.join(SVCD_SUBSETS)}")
    return _split_folder(root / SVCD_SUBSETS[subset], split, subset)


def _split_folder(root: Path, split: str, subset: str) -> Location | None:
    return Location(root / split) if _date_folders(root / split) else None


def _listed(root: Path, split: str, subset: str) -> Location | None:
    names = root / "list" / f"{split}.txt"
    if not names.is_file() or not _date_folders(root):
        return None
    lines = (line.strip() for line in names.read_text("utf-8-sig", errors="replace").splitlines())
    return Location(root, [_name(Path(line)) for line in lines if line])


def _bare(root: Path, split: str, subset: str) -> Location | None:
    return Location(root) if split == "all" and _date_folders(root) else None


def _complete(location: Location) -> list[Pair]:
    folder, names = location
    files = files_by_role(folder)
    before, after, change = files.values()
    first, second = (folder / name for name in _date_folders(folder) or _DATE_FOLDERS[0])
    wanted = sorted(names if names is not None else before)
    if not wanted:
        where = f"{first.name} holds no image" if names is None else "its list names none"
        raise DataError(f"{folder}: no pairs here, {where}")
    doubled = [name for name, following in pairwise(wanted) if name == following]
    if doubled:
        raise DataError(f"{folder}: its list names {doubled[0]} twice")
    _require(wanted, before, first)
    _require(wanted, after, second)
    if names is None:
        _require(sorted(after), before, first)
    labels = _label_folder(folder)
    if labels is None:
        raise DataError(f"{folder}: no labels, expected a folder {' or '.join(_LABEL_FOLDERS)}")
    _require(wanted, change, labels)
    return [Pair(name, before[name], after[name], change[name]) for name in wanted]


def images_by_name(folder: Path) -> dict[str, Path]:
    """Image files below a folder by their path without suffix.

    Raises:
        DataError: If two files have the same name but for their suffix.
    """
    images: dict[str, Path] = {}
    for parent, _, files in os.walk(folder, followlinks=True):
        for file in files:
            path = Path(parent, file)
            if path.suffix.lower() in SUFFIXES and not file.startswith("."):
                name = _name(path.relative_to(folder))
                if name in images:
                    raise DataError(f"{path}: and {images[name].name} have the same name")
                images[name] = path
    return images


def _name(path: Path) -> str:
    """A pair's name: the path without an image's suffix."""
    return str(path.with_suffix("") if path.suffix.lower() in SUFFIXES else path)


def _require(wanted: list[str], have: dict[str, Path], folder: Path) -> None:
    missing = [name for name in wanted if name not in have]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{folder}: {missing[0]}{more} missing here, its partner is not")

"""Where each data set keeps its pairs.

A data set's own folder names (A, B, label, OUT) are known here and nowhere else.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from ctma.data.images import SUFFIXES
from ctma.errors import DataError, SettingError
from ctma.files import file_fingerprint, fingerprint

SPLITS = ("train", "val", "test")
SVCD_SUBSETS = {
    "real": Path("Real/subset"),
    "with_shift": Path("Model/with_shift"),
    "without_shift": Path("Model/without_shift"),
}
_LABEL_FOLDERS = ("label", "OUT")


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


class Place(NamedTuple):
    """Where the pairs of one split are.

    Attributes:
        folder: Holds A, B and the labels.
        names: Which of them belong to the split, ``None`` for all.
    """

    folder: Path
    names: list[str] | None = None


def find_pairs(
    root: str | Path, split: str, *, subset: str = "real", labelled: bool = True
) -> list[Pair]:
    """Finds the pairs of one split, whatever the layout.

    Understood are SVCD (``Real/subset/SPLIT/{A,B,OUT}`` and the two ``Model`` sub-sets),
    LEVIR-CD raw or cut and WHU-CD cut (``SPLIT/{A,B,label}``), and any folder of
    ``{A,B,label}`` with a ``list/SPLIT.txt`` of names, or with none as split ``all``.

    Args:
        root: The data set's folder.
        split: ``"train"``, ``"val"``, ``"test"``, or ``"all"``.
        subset: For SVCD, ``"real"``, ``"with_shift"`` or ``"without_shift"``.
        labelled: Whether every pair must have a label.

    Returns:
        The pairs, sorted by name.

    Raises:
        DataError: If the folder or split is not there, is empty, or a partner is missing.
    """
    root = _folder(root)
    place = _locate(root, split, subset)
    if place is not None:
        return _complete(place, labelled=labelled)
    if (root / "before/before.tif").exists():
        raise DataError(f"{root}: raw WHU-CD, cut it first with: ctma prepare whu-cd {root} DST")
    raise DataError(
        f"{root}: no split {split!r} here; expected {split}/A, {split}/B and {split}/label, "
        f"or A, B and label with list/{split}.txt"
    )


def split_places(root: str | Path, *, subset: str = "real") -> dict[str, Place]:
    """Where each split of a data folder is, by name; ``all`` where it has no splits.

    Raises:
        DataError: If nothing there looks like pairs.
    """
    root = _folder(root)
    found = {name: _locate(root, name, subset) for name in SPLITS}
    places = {name: place for name, place in found.items() if place is not None}
    if not places and (bare := _bare(root, "all", subset)) is not None:
        places = {"all": bare}
    if not places:
        raise DataError(f"{root}: no pairs here, expected SPLIT/A and SPLIT/B, or A and B")
    return places


def data_fingerprint(pairs: list[Pair]) -> str:
    """A short hash of the names and the contents of all files of some pairs."""
    files = [
        (pair.name, path)
        for pair in pairs
        for path in (pair.before, pair.after, pair.change)
        if path
    ]
    return fingerprint(f"{name} {file_fingerprint(path)}" for name, path in files)


def files_by_role(folder: Path) -> dict[str, dict[str, Path]]:
    """Image files of ``before``, ``after`` and ``change`` below a folder, by pair name."""
    labels = _label_folder(folder)
    return {
        "before": images_by_name(folder / "A"),
        "after": images_by_name(folder / "B"),
        "change": images_by_name(labels) if labels else {},
    }


def _label_folder(folder: Path) -> Path | None:
    return next((folder / name for name in _LABEL_FOLDERS if (folder / name).is_dir()), None)


def _folder(root: str | Path) -> Path:
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such data folder")
    return root


def _locate(root: Path, split: str, subset: str) -> Place | None:
    for reader in (_svcd, _split_folder, _listed, _bare):
        place = reader(root, split, subset)
        if place is not None:
            return place
    return None


def _svcd(root: Path, split: str, subset: str) -> Place | None:
    if not any((root / path).is_dir() for path in SVCD_SUBSETS.values()):
        return None
    if subset not in SVCD_SUBSETS:
        raise SettingError(f"data.subset: {subset!r} is none of {', '.join(SVCD_SUBSETS)}")
    return _split_folder(root / SVCD_SUBSETS[subset], split, subset)


def _split_folder(root: Path, split: str, subset: str) -> Place | None:
    return Place(root / split) if (root / split / "A").is_dir() else None


def _listed(root: Path, split: str, subset: str) -> Place | None:
    names = root / "list" / f"{split}.txt"
    if not names.is_file() or not (root / "A").is_dir():
        return None
    lines = (line.strip() for line in names.read_text("utf-8-sig", errors="replace").splitlines())
    return Place(root, [_name(Path(line)) for line in lines if line])


def _bare(root: Path, split: str, subset: str) -> Place | None:
    return Place(root) if split == "all" and (root / "A").is_dir() else None


def _complete(place: Place, *, labelled: bool) -> list[Pair]:
    folder, names = place
    files = files_by_role(folder)
    before, after, change = files.values()
    wanted = sorted(names if names is not None else before)
    if not wanted:
        where = "A holds no image" if names is None else "its list names none"
        raise DataError(f"{folder}: no pairs here, {where}")
    doubled = [name for name, following in pairwise(wanted) if name == following]
    if doubled:
        raise DataError(f"{folder}: its list names {doubled[0]} twice")
    _require(wanted, before, folder / "A")
    _require(wanted, after, folder / "B")
    if names is None:
        _require(sorted(after), before, folder / "A")
    if labelled:
        labels = _label_folder(folder)
        if labels is None:
            raise DataError(f"{folder}: no labels, expected a folder {' or '.join(_LABEL_FOLDERS)}")
        _require(wanted, change, labels)
    return [Pair(name, before[name], after[name], change.get(name)) for name in wanted]


def images_by_name(folder: Path) -> dict[str, Path]:
    """Image files below a folder by their path without suffix.

    Raises:
        DataError: If two files have the same name but for their suffix.
    """
    images: dict[str, Path] = {}
    for parent, _, files in os.walk(folder):
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

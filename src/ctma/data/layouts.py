"""Folder layouts of data sets; only this module knows the folder names of data sets."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ctma.data.images import SUFFIXES
from ctma.errors import DataError, SettingError

SPLITS = ("train", "val", "test")
SVCD_REAL = Path("Real/subset")
"""The default part of SVCD; users select the other parts by their folders."""

LABEL_FOLDERS = ("label", "OUT", "mask", "labels_change", "change")
DATE_FOLDERS = (
    ("A", "B"),  # LEVIR-CD, SVCD and many more
    ("Image1", "Image2"),  # S2Looking
    ("time1", "time2"),  # SYSU-CD, CLCD
    ("t1", "t2"),  # DSIFN
    ("T1", "T2"),  # GZ-CD
    ("before", "after"),
)


class Folders(NamedTuple):
    """Names of the folders that hold a split's files.

    Attributes:
        before: Name of the folder of images before.
        after: Name of the folder of images after.
        change: Name of the folder of labels.
    """

    before: str
    after: str
    change: str


def parse_folders(text: str) -> Folders:
    """Parses folder names in the form ``before=X,after=Y,change=Z``.

    Raises:
        SettingError: If the text has another form.
    """
    parts = dict(part.partition("=")[::2] for part in text.split(","))
    if parts.keys() != set(Folders._fields) or not all(parts.values()):
        raise SettingError(f"`folders` {text}: expected before=X,after=Y,change=Z")
    return Folders(**parts)


class Location(NamedTuple):
    """Folders of the pairs of one split.

    Attributes:
        folder: The folder that contains the folders of both dates and the labels.
        names: Names of the pairs in the split; ``None`` for all pairs.
        before: The folder of images before.
        after: The folder of images after.
        change: The folder of labels; ``None`` without labels.
    """

    folder: Path
    names: list[str] | None
    before: Path
    after: Path
    change: Path | None


class Layout(NamedTuple):
    """Rules to find the pairs of a data folder.

    Attributes:
        folders: Names of the folders, in the form of ``parse_folders``; by default ctma looks for
            the folder names of this module.
    """

    folders: str | None = None

    def locate(self, root: Path, split: str) -> Location | None:
        """Finds the folders of a split; ``None`` if the data folder lacks the split."""
        readers: tuple[Callable[[Path, str], Location | None], ...] = (
            self._svcd, self._split_folder, self._listed, self._bare,
        )  # fmt: skip
        for reader in readers:
            location = reader(root, split)
            if location is not None:
                return location
        return None

    def locations(self, root: Path) -> dict[str, Location]:
        """Finds the folders of each split, by name; ``all`` for a data folder without splits."""
        candidates = {name: self.locate(root, name) for name in SPLITS}
        locations = {
            name: location for name, location in candidates.items() if location is not None
        }
        bare = None if locations else self._bare(root, "all")
        return locations if bare is None else {"all": bare}

    def find_root(self, root: Path) -> Path:
        """Finds the data folder if ``root`` is too high or too low; else returns ``root``."""
        splits = self.locations(root)
        if splits.keys() - {"all"}:
            return root
        for above in root.resolve().parents[:3]:
            if any(_is_in(place.folder, root) for place in self.locations(above).values()):
                return above
        if splits:
            return root
        children = [child for child in sorted(root.iterdir()) if child.is_dir()]
        below = [child for child in children if self.locations(child)]
        return below[0] if len(below) == 1 else root

    def _svcd(self, root: Path, split: str) -> Location | None:
        return self._split_folder(root / SVCD_REAL, split)

    def _split_folder(self, root: Path, split: str) -> Location | None:
        return self._at(root / split)

    def _listed(self, root: Path, split: str) -> Location | None:
        names = root / "list" / f"{split}.txt"
        if not names.is_file():
            return None
        text = read_list(names)
        lines = (line.strip() for line in text.splitlines())
        return self._at(root, [pair_name(Path(line)) for line in lines if line])

    def _bare(self, root: Path, split: str) -> Location | None:
        return self._at(root) if split == "all" else None

    def _at(self, folder: Path, names: list[str] | None = None) -> Location | None:
        for before, after in self.date_names:
            if (folder / before).is_dir():
                labels = (folder / name for name in self.label_names)
                change = next((label for label in labels if label.is_dir()), None)
                return Location(folder, names, folder / before, folder / after, change)
        return None

    @property
    def date_names(self) -> tuple[tuple[str, str], ...]:
        """Possible names of the folders of both dates."""
        return DATE_FOLDERS if self.folders is None else (parse_folders(self.folders)[:2],)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Possible names of the folder of labels."""
        return LABEL_FOLDERS if self.folders is None else (parse_folders(self.folders).change,)


def find_oscd(root: Path, split: str) -> Iterator[tuple[str, Path, Path, Path | None]] | None:
    """Finds the cities of OSCD (Onera), which has separate archives for images and labels.

    ctma uses the colour images (``CITY/pair/img1.png``), not the files of single bands.

    Args:
        root: The folder that contains the unpacked folders of images and labels.
        split: ``"train"`` or ``"test"``; OSCD has no other split.

    Returns:
        Name, before, after and label of each city; ``None`` for another data set.
    """
    images = next(iter(root.glob("*Images")), None)
    if images is None or not (images / f"{split}.txt").is_file():
        return None
    names = read_list(images / f"{split}.txt").replace("\n", ",").split(",")
    labels = {path.parts[-3]: path for path in root.glob("*Labels/*/cm/cm.png")}
    return (
        (city, images / city / "pair/img1.png", images / city / "pair/img2.png", labels.get(city))
        for city in sorted(filter(None, map(str.strip, names)))
    )


def read_list(path: Path) -> str:
    """Reads a list of names in UTF-8, or in UTF-16 as Windows programs write it."""
    content = path.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if wide else "utf-8-sig", errors="replace")


def pair_name(path: Path) -> str:
    """Returns a pair's name: the path without an image suffix."""
    return str(path.with_suffix("") if path.suffix.lower() in SUFFIXES else path)


def check_folder(root: str | Path) -> Path:
    """Returns a path if the path is a folder.

    Raises:
        DataError: If the path is not a folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such data folder")
    return root


def _is_in(folder: Path, root: Path) -> bool:
    """Whether a split's folder is ``root`` or lies within ``root``."""
    return root.resolve() in (folder.resolve(), *folder.resolve().parents)

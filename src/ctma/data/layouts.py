"""How data sets lie on disk: their own folder names are known here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ctma.data.images import SUFFIXES
from ctma.errors import DataError, SettingError

SPLITS = ("train", "val", "test")
SVCD_REAL = Path("Real/subset")
"""The part of SVCD that its name means; the others are named by their own folders."""

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
        before: Images before.
        after: Images after.
        change: Labels.
    """

    before: str
    after: str
    change: str


def parse_folders(text: str) -> Folders:
    """Reads ``before=X,after=Y,change=Z``.

    Raises:
        SettingError: If it says something else.
    """
    parts = dict(part.partition("=")[::2] for part in text.split(","))
    if parts.keys() != set(Folders._fields) or not all(parts.values()):
        raise SettingError(f"`folders` {text}: expected before=X,after=Y,change=Z")
    return Folders(**parts)


class Location(NamedTuple):
    """Where the pairs of one split are.

    Attributes:
        folder: Holds the folders of both dates and the labels.
        names: Which of them belong to the split, ``None`` for all.
        before: The images before.
        after: The images after.
        change: The labels, ``None`` where there are none.
    """

    folder: Path
    names: list[str] | None
    before: Path
    after: Path
    change: Path | None


class Layout(NamedTuple):
    """How to look for pairs.

    Attributes:
        folders: Names of folders, as ``parse_folders`` reads them; those known by default.
    """

    folders: str | None = None

    def locate(self, root: Path, split: str) -> Location | None:
        """Where a split is, ``None`` where it is not."""
        readers: tuple[Callable[[Path, str], Location | None], ...] = (
            self._svcd, self._split_folder, self._listed, self._bare,
        )  # fmt: skip
        for reader in readers:
            location = reader(root, split)
            if location is not None:
                return location
        return None

    def locations(self, root: Path) -> dict[str, Location]:
        """Where each split of a data folder is, by name; ``all`` where it has no splits."""
        found = {name: self.locate(root, name) for name in SPLITS}
        locations = {name: location for name, location in found.items() if location is not None}
        bare = None if locations else self._bare(root, "all")
        return locations if bare is None else {"all": bare}

    def find_root(self, root: Path) -> Path:
        """The data folder, where the one given is one too high or too low; else as given."""
        own = self.locations(root)
        if own.keys() - {"all"}:
            return root
        for above in root.resolve().parents[:3]:
            if any(_is_in(place.folder, root) for place in self.locations(above).values()):
                return above
        if own:
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
        text = names.read_text("utf-8-sig", errors="replace")
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
        """What the folders of both dates may be called."""
        return DATE_FOLDERS if self.folders is None else (parse_folders(self.folders)[:2],)

    @property
    def label_names(self) -> tuple[str, ...]:
        """What the folder of labels may be called."""
        return LABEL_FOLDERS if self.folders is None else (parse_folders(self.folders).change,)


def find_oscd(root: Path, split: str) -> Iterator[tuple[str, Path, Path, Path | None]] | None:
    """The cities of OSCD (Onera), which come in archives of images and of labels.

    Its colour images (``CITY/pair/img1.png``) are taken, not the files of single bands.

    Args:
        root: Holds the folder of images and those of labels, as they are unpacked.
        split: ``"train"`` or ``"test"``; there is no other.

    Returns:
        Name, before, after and label of each city, ``None`` where it is another data set.
    """
    images = next(iter(root.glob("*Images")), None)
    if images is None or not (images / f"{split}.txt").is_file():
        return None
    names = (images / f"{split}.txt").read_text("utf-8-sig").replace("\n", ",").split(",")
    labels = {path.parts[-3]: path for path in root.glob("*Labels/*/cm/cm.png")}
    return (
        (city, images / city / "pair/img1.png", images / city / "pair/img2.png", labels.get(city))
        for city in sorted(filter(None, map(str.strip, names)))
    )


def pair_name(path: Path) -> str:
    """A pair's name: the path without an image's suffix."""
    return str(path.with_suffix("") if path.suffix.lower() in SUFFIXES else path)


def check_folder(root: str | Path) -> Path:
    """The folder, if it is one.

    Raises:
        DataError: If not.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such data folder")
    return root


def _is_in(folder: Path, root: Path) -> bool:
    """Whether a split's folder is a folder that was given, or lies in it."""
    return root.resolve() in (folder.resolve(), *folder.resolve().parents)

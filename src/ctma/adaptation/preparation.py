"""Makes a data set of one scene or more: tiles with labels, for training and held out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import rasterio.windows
from rasterio.windows import Window as RasterWindow

from ctma.adaptation.dates import Dates, open_dates, open_dates_of, parse_bands
from ctma.adaptation.holdout import Cells, Counts, Tile, part_tiles
from ctma.adaptation.labels import Labels, PolygonLabels, Tidied, read_labels
from ctma.adaptation.reviewed import read_reviewed
from ctma.adaptation.settings import LabelSettings
from ctma.adaptation.tiles import extended_folder, write_image, write_label
from ctma.data.footprints import Footprint, find_neighbours, read_footprints
from ctma.data.readers import find_pairs
from ctma.data.tiles import Window
from ctma.errors import DataError, OutputError, warn
from ctma.files import write_json
from ctma.review.decisions import name_files
from ctma.scene.finished import read_finished
from ctma.scene.rasters import raster_settings
from ctma.types import IGNORED, Pixels, Progress, ignore

RECORD = "labels.json"
"""The record of a data set: its scenes, and how they were cut."""

SPLITS = ("train", "val")
FOLDERS = ("before", "after", "change")


class Contents(NamedTuple):
    """What a split of a scene holds.

    Attributes:
        tiles: Number of tiles.
        labelled: Number of pixels with a label.
        changed: Number of pixels of change.
    """

    tiles: int = 0
    labelled: int = 0
    changed: int = 0


@dataclass(frozen=True)
class LabelledScene:
    """A scene that became tiles.

    Attributes:
        folder: The data set.
        name: The scene's name, with which the names of its tiles begin.
        bands: The names of the bands.
        polygons: What became of the polygons; all counts are 0 for a raster of labels.
        splits: Contents of ``train`` and ``val``.
        left_out: Number of tiles with labels that lie too near to held-out tiles.
    """

    folder: Path
    name: str
    bands: tuple[str, ...]
    polygons: Tidied
    splits: dict[str, Contents]
    left_out: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values by name."""
        splits = {name: contents._asdict() for name, contents in self.splits.items()}
        return {
            **asdict(self), "folder": str(self.folder), "splits": splits,
            "polygons": self.polygons._asdict(),
        }  # fmt: skip


def prepare_labels(
    before: str | Path,
    after: str | Path,
    labels: str | Path,
    output: str | Path,
    settings: LabelSettings | None = None,
    *,
    on_progress: Progress = ignore,
) -> LabelledScene:
    """Makes a data set of two rasters and labels.

    Tiles for training and held-out tiles (the split ``val``) share no ground: at least the side of
    a tile lies between both. Every held-out pixel is scored once.

    Args:
        before: A raster.
        after: A raster that overlaps the raster before.
        labels: Polygons of change in any CRS, or a raster of 0 and 1.
        output: The data folder.
        settings: How labels are read and tiles are cut; the defaults if not given.
        on_progress: Called after every tile with the number of finished tiles and of all.

    Raises:
        DataError: If the labels cannot be read or used.
        SceneError: If a raster cannot be read, or the two do not overlap.
        SettingError: If a setting is out of range.
        OutputError: If the folder cannot be written, or exists and ``add`` is not set.
    """
    settings = settings or LabelSettings()
    wanted = None if settings.bands is None else parse_bands(settings.bands)
    with raster_settings(), open_dates(before, after, wanted, settings.nodata) as dates:
        burned, tidied = read_labels(
            Path(labels),
            dates.grid,
            where=settings.where,
            extent=None if settings.extent is None else Path(settings.extent),
            all_touched=settings.all_touched,
        )
        return _Preparation(dates, burned, tidied, settings, Path(output)).run(on_progress)


def prepare_reviewed(
    folder: str | Path,
    decisions: str | Path | Sequence[str | Path],
    output: str | Path,
    settings: LabelSettings | None = None,
    *,
    on_progress: Progress = ignore,
) -> LabelledScene:
    """Makes a data set of a map and the decisions on its changes.

    Change is what reviewers called right, as they mended its outline, and what they drew. No change
    is the rest of what a reviewer saw: the pictures around the changes with a verdict. All else has
    no label, and neither have changes that are unsure, disputed or without a verdict.

    Args:
        folder: The folder of a map.
        decisions: One file of a review page or more, each of one reviewer.
        output: The data folder.
        settings: How tiles are cut: ``tile``, ``holdout``, ``add`` and the names of ``bands`` have
            a part here.
        on_progress: Called after every tile with the number of finished tiles and of all.

    Raises:
        DataError: If the folder holds no map, or a file is damaged or belongs to another map.
        SceneError: If a raster is not where it lay, or cannot be read.
        SettingError: If a setting is out of range.
        OutputError: If the folder cannot be written, or exists and ``add`` is not set.
    """
    settings = settings or LabelSettings()
    finished = read_finished(folder)
    reviewed = read_reviewed(finished, name_files(decisions))
    labels = PolygonLabels(finished.grid, reviewed.changed, reviewed.seen, reviewed.ignored)
    tidied = Tidied(read=len(reviewed.changed))
    wanted = None if settings.bands is None else parse_bands(settings.bands)
    with raster_settings(), open_dates_of(finished, wanted) as dates:
        return _Preparation(dates, labels, tidied, settings, Path(output)).run(on_progress)


@dataclass(frozen=True)
class _Preparation:
    """Cuts one scene and writes its tiles."""

    dates: Dates
    labels: Labels
    tidied: Tidied
    settings: LabelSettings
    output: Path

    def run(self, on_progress: Progress) -> LabelledScene:
        former = _read_record(self.output) if self.settings.add else None
        if former is None and self.output.exists():
            raise OutputError(f"{self.output}: exists already; name a new folder, or add `add`")
        cells = Cells(self.dates.grid.height, self.dates.grid.width, self.settings.tile)
        counts = self._count(cells)
        self._check(counts, former)
        if former is not None:
            _remove_strays(self.output, former)
        name = _new_name(Path(self.dates.paths[0]).stem, former)
        tiles = [*part_tiles(cells, counts, self.settings.holdout)]
        kept = [*self._keep_apart(tiles)]
        self._check_held_out(counts, kept)
        with extended_folder(self.output, former is not None) as folder:
            splits = self._write(folder, name, kept, counts, on_progress)
            scene = LabelledScene(
                self.output, name, self.dates.names, self.tidied, splits,
                int((counts.labelled > 0).sum()) - len(kept),
            )  # fmt: skip
            write_json(folder / RECORD, {"scenes": [*(former or []), self._describe(scene)]})
        return scene

    def _count(self, cells: Cells) -> Counts:
        """Labelled and changed pixels of each cell."""
        labelled, changed = (np.zeros(cells.shape, np.int64) for _ in range(2))
        for row in range(cells.shape[0]):
            for column in range(cells.shape[1]):
                change = self._read_change(cells.own(row, column))
                labelled[row, column] = np.count_nonzero(change != IGNORED)
                changed[row, column] = np.count_nonzero(change == 1)
        return Counts(labelled, changed)

    def _check(self, counts: Counts, former: list[dict[str, Any]] | None) -> None:
        """Refuses labels from which nothing can be learned."""
        total, changed = int(counts.labelled.sum()), int(counts.changed.sum())
        if not total:
            raise DataError(f"{self.dates.paths[0]}: no pixel with data has a label")
        if former is None and changed in (0, total):
            kind = "is change" if changed else "shows change"
            raise DataError(
                f"{self.dates.paths[0]}: {'every' if changed else 'no'} labelled pixel {kind}; "
                "label both change and no change"
            )

    def _check_held_out(self, counts: Counts, tiles: list[Tile]) -> None:
        share = self.settings.holdout
        changed = {
            split: any(
                counts.changed[tile.row, tile.column] for tile in tiles if tile.split == split
            )
            for split in SPLITS
        }
        if not 0 < share < 1 or all(changed.values()):
            return
        if int((counts.changed > 0).sum()):
            raise DataError(
                f"{self.dates.paths[0]}: too small to hold out tiles with change and keep a tile's "
                f"width between; take a smaller `tile` than {self.settings.tile}, or `holdout` 0"
            )
        warn(f"{self.dates.paths[0]}: shows no change, so nothing is held out")

    def _keep_apart(self, tiles: list[Tile]) -> Iterator[Tile]:
        """The tiles that do not come near tiles of other scenes in another split."""
        others = {split: _find_footprints(self.output, split) for split in SPLITS}
        for split, opposite in (SPLITS, SPLITS[::-1]):
            mine = [tile for tile in tiles if tile.split == split]
            places = [self._footprint(str(index), tile.image) for index, tile in enumerate(mine)]
            near = {
                int(one.first.name)
                for one in find_neighbours(places, others[opposite], self.settings.tile)
            }
            yield from (tile for index, tile in enumerate(mine) if index not in near)

    def _footprint(self, name: str, window: Window) -> Footprint:
        grid = self.dates.grid
        place = rasterio.windows.transform(_raster_window(window), grid.transform)
        return Footprint(name, grid.crs, place, window.width, window.height)

    def _write(
        self, folder: Path, name: str, tiles: list[Tile], counts: Counts, on_progress: Progress
    ) -> dict[str, Contents]:
        splits = dict.fromkeys(SPLITS, Contents())
        for number, tile in enumerate(tiles, start=1):
            self._write_tile(folder, f"{name}_{tile.row:03d}_{tile.column:03d}", tile)
            so_far = splits[tile.split]
            splits[tile.split] = Contents(
                so_far.tiles + 1,
                so_far.labelled + int(counts.labelled[tile.row, tile.column]),
                so_far.changed + int(counts.changed[tile.row, tile.column]),
            )
            on_progress(number, len(tiles))
        return splits

    def _write_tile(self, folder: Path, name: str, tile: Tile) -> None:
        """Writes both dates and the label of a tile."""
        place = self._footprint(name, tile.image)
        window = _raster_window(tile.image)
        for source, date in zip(self.dates.sources, FOLDERS, strict=False):
            values, valid = source.read(window)
            path = folder / tile.split / date / f"{name}.tif"
            write_image(path, values, valid, self.dates.names, place)
        change = self._read_change(tile.image)
        others = np.ones(change.shape, bool)
        top, left = tile.own.top - tile.image.top, tile.own.left - tile.image.left
        others[top : top + tile.own.height, left : left + tile.own.width] = False
        change[others] = IGNORED
        write_label(folder / tile.split / FOLDERS[2] / f"{name}.tif", change, place)

    def _read_change(self, window: Window) -> Pixels:
        """Labels where both dates have data."""
        area = _raster_window(window)
        change = self.labels.read(area)
        if (change != IGNORED).any():
            for source in self.dates.sources:
                change = np.where(source.read(area)[1], change, np.uint8(IGNORED))
        return change

    def _describe(self, scene: LabelledScene) -> dict[str, Any]:
        described = scene.as_dict()
        del described["folder"]
        before, after = self.dates.paths
        tile, holdout = self.settings.tile, self.settings.holdout
        return described | {"before": before, "after": after, "tile": tile, "holdout": holdout}


def _raster_window(window: Window) -> RasterWindow:
    return RasterWindow(window.left, window.top, window.width, window.height)


def _read_record(folder: Path) -> list[dict[str, Any]] | None:
    """The scenes of a data set that exists, ``None`` where there is none yet."""
    if not folder.exists():
        return None
    try:
        scenes: list[dict[str, Any]] = json.loads((folder / RECORD).read_bytes())["scenes"]
        return [*scenes]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: is no data set of ctma prepare labels, to add to") from error


def _remove_strays(folder: Path, scenes: list[dict[str, Any]]) -> None:
    """Removes tiles of a scene that was being added when the program was stopped."""
    known = {scene["name"] for scene in scenes}
    for path in folder.glob("*/*/*.tif"):
        if path.stem.rsplit("_", 2)[0] not in known:
            path.unlink()


def _new_name(stem: str, former: list[dict[str, Any]] | None) -> str:
    taken = {scene["name"] for scene in former or []}
    number, name = 1, stem
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    return name


def _find_footprints(folder: Path, split: str) -> list[Footprint]:
    """The places of the tiles that a data set has already."""
    there = folder / split
    return read_footprints(find_pairs(folder, split)) if there.is_dir() else []

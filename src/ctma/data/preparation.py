"""Cuts published data sets into the patches of the published evaluations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ctma.data.images import save_image
from ctma.data.layouts import SPLITS
from ctma.data.pairs import Coding, Pair, binary_label, find_coding, read_sample, size_text
from ctma.data.readers import find_pairs
from ctma.errors import DataError, SettingError, UnknownNameError, extras
from ctma.files import whole_folder
from ctma.types import IGNORED, Pixels, Progress, ignore

CROP = 256
TRAINING_STRIDE = 128
UNLABELLED = 128
"""Stored value of pixels without a label, beside 0 and 255."""

WHU_SPLITS = ("spatial", "random")


@dataclass(frozen=True)
class PreparedData:
    """The result of a preparation.

    Attributes:
        folder: The new data folder.
        pairs: Number of pairs in each split.
    """

    folder: Path
    pairs: dict[str, int]


def prepare(
    dataset: str,
    source: str | Path,
    target: str | Path,
    *,
    split: str | None = None,
    seed: int = 0,
    on_progress: Progress = ignore,
) -> PreparedData:
    """Cuts a published data set into the patches of published evaluations, 256 pixels a side.

    Args:
        dataset: ``"levir-cd"`` or ``"whu-cd"``.
        source: The raw data set.
        target: A folder that does not exist yet.
        split: Only for WHU-CD: ``"spatial"`` or ``"random"``. Published results use both splits.
        seed: Seed of the random split of WHU-CD.
        on_progress: Called with the number of finished steps and the number of all steps.

    Raises:
        UnknownNameError: If the data set is unknown.
        SettingError: If WHU-CD is given without a split, or LEVIR-CD with a split.
        DataError: If a file, a split or a file of a pair is missing.
        OutputError: If the target exists or cannot be written.
    """
    if dataset == "levir-cd":
        if split is not None:
            raise SettingError("`split` is for whu-cd: levir-cd keeps its own; leave it out")
        return prepare_levir_cd(source, target, on_progress)
    if dataset != "whu-cd":
        raise UnknownNameError("data set to prepare", dataset, ("levir-cd", "whu-cd"))
    if split is None:
        raise SettingError("whu-cd has two published splits: give `split` spatial or random")
    return prepare_whu_cd(source, target, split, seed=seed, on_progress=on_progress)


def prepare_levir_cd(
    source: str | Path, target: str | Path, on_progress: Progress = ignore
) -> PreparedData:
    """Cuts LEVIR-CD's scenes into 256-pixel patches, row by row.

    Train has stride 128: 49 patches of a 1024-pixel scene. Val and test have stride 256: 16
    patches. Each patch becomes ``SPLIT/{A,B,label}/SCENE/SCENE_K.png``, with K from 0.

    Args:
        source: The raw data set.
        target: A folder that does not exist yet.
        on_progress: Called after every scene with the number of finished scenes and of all scenes.

    Raises:
        DataError: If a split or a file of a pair is missing.
        OutputError: If the target exists or cannot be written.
    """
    splits = {split: find_pairs(source, split) for split in SPLITS}
    coding = find_coding([pair for pairs in splits.values() for pair in pairs])
    scenes = [(split, pair) for split, pairs in splits.items() for pair in pairs]

    def cut(folder: Path, split: str, scene: Pair) -> tuple[str, int]:
        *dates, change = read_sample(scene, coding)
        images = (*dates, change)
        if min(change.shape) < CROP:
            raise DataError(f"{scene.before}: {size_text(change)}, a scene is cut at {CROP} pixels")
        stride = TRAINING_STRIDE if split == "train" else CROP
        origins = list(_grid(images[0].shape[0], images[0].shape[1], stride))
        for number, (top, left) in enumerate(origins):
            name = f"{scene.name}/{Path(scene.name).name}_{number}"
            _save_pair(folder / split, name, _cut(images, top, left))
        return split, len(origins)

    with whole_folder(target) as folder, ThreadPoolExecutor() as pool:
        counts = dict.fromkeys(SPLITS, 0)
        done = pool.map(lambda scene: cut(folder, *scene), scenes)
        for number, (split, patches) in enumerate(done, start=1):
            counts[split] += patches
            on_progress(number, len(scenes))
    return PreparedData(Path(target), counts)


def prepare_whu_cd(
    source: str | Path,
    target: str | Path,
    split: str,
    *,
    seed: int = 0,
    on_progress: Progress = ignore,
) -> PreparedData:
    """Cuts the single large scene of WHU-CD by one of the two published splits.

    ``spatial``: The left 70 % of the columns are cut at stride 128 for train and val. A crop is
    train if its origin lies within the first sqrt(0.9) of these columns and within the first
    sqrt(0.9) of the rows; other crops are val. The right 30 % of the columns are test, as one
    image. ``random``: The scene is cut into 256-pixel cells without overlap, with zero padding of
    the last row and column. The cells are shuffled and divided 8:1:1 into train, val and test.

    Args:
        source: The folder of the raw data set. The folder or its subfolders contain
            ``before.tif``, ``after.tif`` and ``change_label.tif``.
        target: A folder that does not exist yet.
        split: ``"spatial"`` or ``"random"``.
        seed: Seed of the shuffling.
        on_progress: Called after every crop with the number of finished crops and of all crops.

    Raises:
        SettingError: If the split is unknown.
        DataError: If a raster is missing or the sizes differ.
        OutputError: If the target exists or cannot be written.
        MissingExtraError: If rasterio is not installed.
    """
    if split not in WHU_SPLITS:
        raise SettingError(f"`split` {split}: expected {' or '.join(WHU_SPLITS)}")
    images = _read_whu(Path(source))
    height, width = images[2].shape
    if split == "spatial":
        patches = _spatial_patches(height, width)
    else:
        patches = _random_patches(height, width, seed)

    def save(folder: Path, patch: _Patch) -> str:
        area = (
            slice(patch.top, patch.top + patch.height),
            slice(patch.left, patch.left + patch.width),
        )
        crops = tuple(_pad(image[area], patch.height, patch.width) for image in images)
        _save_pair(folder / patch.split, f"whu_{patch.top:05d}_{patch.left:05d}", crops)
        return patch.split

    with whole_folder(target) as folder, ThreadPoolExecutor() as pool:
        counts = dict.fromkeys(SPLITS, 0)
        for number, part in enumerate(pool.map(lambda patch: save(folder, patch), patches), 1):
            counts[part] += 1
            on_progress(number, len(patches))
    return PreparedData(Path(target), counts)


class _Patch(NamedTuple):
    split: str
    top: int
    left: int
    height: int = CROP
    width: int = CROP


def _spatial_patches(height: int, width: int) -> list[_Patch]:
    border = width * 7 // 10
    if height < CROP or border < CROP:
        raise DataError(f"WHU-CD scene of {height} x {width}: too small for {CROP}-pixel crops")
    share = math.sqrt(0.9)
    crops = [
        _Patch("train" if left < share * border and top < share * height else "val", top, left)
        for top, left in _grid(height, border, TRAINING_STRIDE)
    ]
    return [*crops, _Patch("test", 0, border, height, width - border)]


def _random_patches(height: int, width: int, seed: int) -> list[_Patch]:
    cells = [(top, left) for top in range(0, height, CROP) for left in range(0, width, CROP)]
    order = np.random.default_rng(seed).permutation(len(cells))
    borders = round(len(cells) * 0.8), round(len(cells) * 0.9)
    return [
        _Patch(SPLITS[sum(rank >= border for border in borders)], *cells[cell])
        for rank, cell in enumerate(order)
    ]


def _grid(height: int, width: int, stride: int) -> Iterator[tuple[int, int]]:
    """Yields the origins of all crops that lie completely inside the scene, row by row."""
    for top in range(0, height - CROP + 1, stride):
        for left in range(0, width - CROP + 1, stride):
            yield top, left


def _read_whu(source: Path) -> tuple[Pixels, ...]:
    with extras():
        import rasterio
        from rasterio.errors import RasterioIOError
    names = ("before.tif", "after.tif", "change_label.tif")
    images: list[Pixels] = []
    for name in names:
        # The folders of the rasters differ in name and depth between WHU-CD archives.
        paths = sorted(source.rglob(name))
        if len(paths) != 1:
            raise DataError(
                f"{source}: holds {len(paths)} rasters {name}, expected one each of "
                f"{', '.join(names)}, in folders of any name"
            )
        (path,) = paths
        try:
            with rasterio.open(path) as raster:
                bands = raster.read(1) if name.startswith("change") else raster.read([1, 2, 3])
        except (RasterioIOError, IndexError) as error:
            raise DataError(f"{path}: cannot be read as a raster ({error})") from error
        if bands.dtype != np.uint8:
            raise DataError(f"{path}: values of {bands.dtype}, WHU-CD has 8 bits")
        images.append(bands if bands.ndim == 2 else bands.transpose(1, 2, 0))
    sizes = {image.shape[:2] for image in images}
    if len(sizes) > 1:
        raise DataError(f"{source}: rasters of different sizes: {sorted(sizes)}")
    before, after, label = images
    change = binary_label(label, Coding(1 if label.max() <= 1 else 255), source / names[2])
    return before, after, change


def _cut(images: tuple[Pixels, ...], top: int, left: int) -> tuple[Pixels, ...]:
    return tuple(image[top : top + CROP, left : left + CROP] for image in images)


def _pad(image: Pixels, height: int, width: int) -> Pixels:
    padding = [(0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)]
    return np.pad(image, padding[: image.ndim])


def _save_pair(folder: Path, name: str, images: tuple[Pixels, ...]) -> None:
    """Writes a pair; a label with pixels to ignore as a TIFF that names their value."""
    *dates, change = map(np.ascontiguousarray, images)
    for kind, image in zip(("A", "B"), dates, strict=True):
        save_image(folder / kind / f"{name}.png", image)
    stored, path = change * np.uint8(255), folder / "label" / f"{name}.png"
    if (change == IGNORED).any():
        stored[change == IGNORED] = UNLABELLED
        save_image(path.with_suffix(".tif"), stored, nodata=UNLABELLED)
    else:
        save_image(path, stored)

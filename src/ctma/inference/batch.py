"""Predicts pairs of image files by any function; writes masks and probabilities to disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ctma.data.images import SUFFIXES, read_owner, save_image
from ctma.data.pairs import Pair, pair_files, read_pair
from ctma.data.readers import images_by_name
from ctma.errors import DataError, OutputError
from ctma.files import check_folder, fingerprint, refuse_inputs, write_json
from ctma.types import Pixels, Plane, Progress, ignore

SOURCES = "sources.json"
"""The file that names the images of each mask in a folder."""


class FilePrediction(NamedTuple):
    """The files of one predicted pair of images, and what predicted the pair.

    Attributes:
        name: The pair's name.
        mask: The mask's file, 0/255.
        probability: The probability's file, 0 to 255.
        changed_share: Share of changed pixels among all pixels, in [0, 1].
        engine: The engine that ran the network.
        precision: The precision that the engine computed in.
        engine_why: Why ctma chose engine and precision; empty where the caller chose both.
    """

    name: str
    mask: Path
    probability: Path
    changed_share: float
    engine: str
    precision: str
    engine_why: str

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values, by name."""
        paths = {"mask": str(self.mask), "probability": str(self.probability)}
        return self._asdict() | paths


class Prediction(NamedTuple):
    """The predicted change between two images.

    Attributes:
        probability: Change probability in [0, 1], (H, W) float32.
        mask: 1 where the probability exceeds the threshold, (H, W) uint8.
    """

    probability: Plane
    mask: Pixels


def predict_pairs(
    before: Path,
    after: Path,
    output: Path,
    predict: Callable[[Pixels, Pixels], Prediction],
    computing: Mapping[str, str],
    *,
    overwrite: bool = False,
    on_done: Progress = ignore,
) -> list[FilePrediction]:
    """Predicts two images or two folders of images, and writes masks and probabilities.

    Args:
        before: An image or a folder.
        after: An image or a folder, as ``before``. In folders, both images of a pair have the
            same name without suffix.
        output: A folder for ``mask/NAME.png`` (0/255) and ``probability/NAME.png`` (0 to 255).
        predict: Predicts the change between two images, (H, W, 3).
        computing: The ``engine``, ``precision`` and ``engine_why`` of the results.
        overwrite: Whether to replace files of other pairs too.
        on_done: Called after every pair with the number of finished pairs and of all pairs.

    Returns:
        The files and values of each pair.

    Raises:
        DataError: If partners are missing or there is nothing to predict.
        ImageError: If an image is unreadable or sizes differ.
        OutputError: If a file cannot be written, is an input, or was made from another pair.
    """
    check_there(before, after)
    check_folder(output, (before, after))
    pairs = find_partners(before, after)
    files = {
        pair: [output / kind / f"{pair.name}.png" for kind in ("mask", "probability")]
        for pair in pairs
    }
    refuse_inputs(pair_files(pairs), chain(*files.values()))
    if not overwrite:
        _refuse_others(files)
    results: list[FilePrediction] = []
    for pair, (mask, probability) in files.items():
        prediction = predict(*read_pair(pair))
        if not results:
            _keep_sources(output, pairs)
        save_image(mask, prediction.mask * np.uint8(255), _owner(pair))
        save_image(probability, to_8_bit(prediction.probability), _owner(pair))
        share = float(prediction.mask.mean())
        results.append(FilePrediction(pair.name, mask, probability, share, **computing))
        on_done(len(results), len(pairs))
    return results


def read_sources(output: Path) -> dict[str, dict[str, str]]:
    """The images ``before`` and ``after`` of each mask in a folder, by name.

    Empty if the folder does not say.
    """
    try:
        sources = json.loads((output / SOURCES).read_bytes())
    except (OSError, ValueError):
        return {}
    return sources if isinstance(sources, dict) else {}


def _keep_sources(output: Path, pairs: list[Pair]) -> None:
    new = {
        pair.name: {"before": str(pair.before.resolve()), "after": str(pair.after.resolve())}
        for pair in pairs
    }
    write_json(output / SOURCES, read_sources(output) | new)


def find_partners(before: Path, after: Path) -> list[Pair]:
    """The pair of two images, or all pairs of images with equal names in two folders.

    Raises:
        DataError: If only one path is a folder, or partners are missing.
    """
    check_there(before, after)
    if before.is_dir() != after.is_dir():
        raise DataError(f"{before} and {after}: give two images or two folders")
    if not before.is_dir():
        return [Pair(before.stem, before, after, None)]
    images = [images_by_name(folder) for folder in (before, after)]
    alone = sorted(images[0].keys() ^ images[1].keys())
    if alone:
        raise DataError(f"{before} and {after}: {alone[0]} is in one only ({len(alone)} such)")
    if not images[0]:
        raise DataError(f"{before}: no images here ({', '.join(sorted(SUFFIXES))})")
    return [Pair(name, images[0][name], images[1][name], None) for name in sorted(images[0])]


def check_there(*paths: Path) -> None:
    """Refuses paths that do not exist.

    Raises:
        DataError: If a path does not exist.
    """
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")


def _refuse_others(files: dict[Pair, list[Path]]) -> None:
    for pair, outputs in files.items():
        for path in outputs:
            if path.exists() and read_owner(path) != _owner(pair):
                raise OutputError(
                    f"{path}: is there already and was not made from {pair.before} and "
                    f"{pair.after}; name another folder, or replace it with `overwrite`"
                )


def _owner(pair: Pair) -> str:
    """A fingerprint of the pair's paths, which does not reveal the paths."""
    return fingerprint(str(path.resolve()) for path in (pair.before, pair.after))


def to_8_bit(probability: Plane) -> Pixels:
    """Converts probability in [0, 1] to the nearest integer of 0 to 255."""
    return np.rint(probability * 255).astype(np.uint8)

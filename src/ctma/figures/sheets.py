"""Contact sheets: pairs beside the predictions of the network."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from numpy.typing import NDArray

from ctma.errors import SettingError
from ctma.files import whole_file

FOUND, CLAIMED, MISSED = (255, 255, 255), (230, 60, 50), (60, 130, 245)
"""Colours of true positives, false positives and false negatives."""

UNKNOWN = "?"
"""Replaces a character that the font does not have."""

TITLE_WIDTH = 26
"""Characters per line of the name above a picture; longer names take several lines."""

FORMATS = ("png", "jpg", "jpeg", "pdf", "svg", "tif", "tiff")

Tile = NDArray[np.uint8]


def check_format(path: str | Path) -> str:
    """The format that a picture's suffix names.

    Raises:
        SettingError: If the suffix names no known format.
    """
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise SettingError(f"{path}: expected a name that ends in .{', .'.join(FORMATS)}")
    return kind


def save_sheet(
    path: str | Path, rows: Sequence[Mapping[str, Tile]], title: str, row_names: Sequence[str] = ()
) -> None:
    """Writes a grid of pictures as one image.

    Args:
        path: The path of the sheet; the suffix names the format.
        rows: For each row, pictures by column name: (H, W) in 0/1 or (H, W, C) uint8.
        title: The title of the sheet.
        row_names: The names at the left of the rows.

    Raises:
        SettingError: If the suffix names no format.
        OutputError: If the file cannot be written.
    """
    kind = check_format(path)
    columns = list(rows[0])
    figure = Figure(figsize=(2.2 * len(columns) + 0.4, 2.3 * len(rows) + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for row, tiles in enumerate(rows):
        for column, name in enumerate(columns):
            axis = axes[row][column]
            tile = tiles[name] if tiles[name].ndim == 2 else as_colours(tiles[name])
            limit = 1 if tile.ndim == 2 else None
            axis.imshow(tile, cmap="gray", vmin=0, vmax=limit, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            if row == 0:
                lines = [textwrap.fill(printable(line), TITLE_WIDTH) for line in name.splitlines()]
                axis.set_title("\n".join(lines), fontsize=9, parse_math=False)
        if row_names:
            axes[row][0].set_ylabel(printable(row_names[row]), fontsize=7, parse_math=False)
    figure.suptitle(printable(title), fontsize=10, parse_math=False)
    with whole_file(path) as part:
        figure.savefig(part, dpi=110, format=kind)


def as_colours(image: Tile) -> Tile:
    """The first three bands of an image (H, W, C), or the first band three times."""
    return image[..., :3] if image.shape[2] >= 3 else image[..., :1].repeat(3, axis=2)


def printable(text: str) -> str:
    """A text with ``?`` in place of characters that the figures' font does not have."""
    charmap = get_font(findfont(FontProperties())).get_charmap()
    return "".join(sign if ord(sign) in charmap else UNKNOWN for sign in text)


def heat(values: NDArray[np.float32]) -> Tile:
    """A heat map as in the paper: min-max scaled, jet; (H, W) to (H, W, 3)."""
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return _jet(scaled)


def probability_map(probability: NDArray[np.float32]) -> Tile:
    """Probability in [0, 1] from blue to red, (H, W, 3)."""
    return _jet(probability)


def error_map(mask: Tile, change: Tile) -> Tile:
    """Errors of a mask, (H, W, 3): hits white, false alarms red, misses blue, the rest black."""
    colours = np.zeros((*mask.shape, 3), np.uint8)
    colours[(mask == 1) & (change == 1)] = FOUND
    colours[(mask == 1) & (change == 0)] = CLAIMED
    colours[(mask == 0) & (change == 1)] = MISSED
    return colours


def _jet(values: NDArray[np.float32]) -> Tile:
    return colormaps["jet"](values, bytes=True)[..., :3]

"""Draws a picture of the changes in a scene."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import NDArray

from ctma.figures.sheets import printable
from ctma.files import whole_file
from ctma.types import Pixels, Plane, counted

SIDE = 5.0
"""Inches of a picture's longer side."""

PAIRS_A_ROW = 3
"""Changes side by side on a sheet of the largest ones."""

SCALE_SHARE = 0.3
"""The largest share of a scene's width that a scale bar takes."""

FAST = 1
"""Compression of a PNG, from 1 for fast to 9 for small."""

OUTLINE = "#ff2d1a"
NOTHING = "#30343b"
"""Colour of pixels without data."""


class Overview(NamedTuple):
    """The data that the picture of a scene shows.

    Attributes:
        before: The date before, (H, W, 3) uint8, as the network sees the date.
        after: The date after, likewise, moved if the dates were coregistered.
        probability: (H, W) in [0, 1], NaN where there is no data.
        outlines: The polygons' outer rings, each (N, 2) columns and rows of the overview.
        changes: Number of polygons; ``outlines`` holds fewer if there are very many.
        area: Their area, in square metres.
        metres: Metres a pixel of the overview, ``None`` where not known.
        north: Direction of north, in degrees clockwise from the top; ``None`` where not known.
    """

    before: Pixels
    after: Pixels
    probability: Plane
    outlines: list[NDArray[np.float64]]
    changes: int
    area: float
    metres: float | None
    north: float | None


class Closeup(NamedTuple):
    """One change with its surroundings.

    Attributes:
        caption: What is said above the two pictures.
        before: The date before, (H, W, 3) uint8; black where the raster is not at hand.
        after: The date after, likewise.
        rings: Outer ring and holes of the change, each (N, 2) columns and rows of the pictures.
    """

    caption: str
    before: Pixels
    after: Pixels
    rings: list[NDArray[np.float64]]


def save_scene(path: str | Path, overview: Overview, title: str) -> None:
    """Writes both dates, the probability, and the polygons over the date after, as a PNG.

    Args:
        path: The path of the PNG.
        overview: The data to show.
        title: The title of the picture.

    Raises:
        OutputError: If the file cannot be written.
    """
    before, after, probability, outlines = overview[:4]
    height, width = probability.shape
    # The short side of a long, thin scene gets at least a tenth of the long side's length.
    across, down = (SIDE * max(length / max(height, width), 0.1) for length in (width, height))
    figure = Figure(figsize=(2 * across, 2 * down + 0.7), layout="constrained", dpi=100)
    axes = figure.subplots(2, 2)
    colours = colormaps["inferno"].with_extremes(bad=NOTHING)
    axes[0, 0].imshow(before)
    axes[0, 1].imshow(after)
    shown = axes[1, 0].imshow(probability, cmap=colours, vmin=0, vmax=1, interpolation="nearest")
    axes[1, 1].imshow(after)
    axes[1, 1].add_collection(LineCollection(outlines, colors=OUTLINE, linewidths=0.9))
    caption = f"{counted(overview.changes, 'change')}, {area_text(overview.area)}"
    if overview.metres is not None:
        _draw_scale(axes[1, 1], overview.metres, width, height)
    if overview.north is not None:
        _draw_north(axes[1, 1], overview.north, max(width, height))
    names = ("before", "after", "probability of change", caption)
    for axis, name in zip(axes.flat, names, strict=True):
        axis.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        axis.set_title(name, fontsize=9)
    figure.colorbar(shown, ax=axes[1, 0], shrink=0.7, pad=0.01)
    figure.suptitle(printable(title), fontsize=10, parse_math=False)
    _save(figure, path)


def save_closeups(path: str | Path, closeups: Sequence[Closeup], title: str) -> None:
    """Writes a sheet of changes, each before and after, with its outline, as a PNG.

    Args:
        path: The path of the PNG.
        closeups: The changes, at least one.
        title: The title of the sheet.

    Raises:
        OutputError: If the file cannot be written.
    """
    across = min(PAIRS_A_ROW, len(closeups))
    down = math.ceil(len(closeups) / across)
    figure = Figure(figsize=(4 * across, 2.3 * down + 0.5), layout="constrained", dpi=110)
    axes = figure.subplots(down, 2 * across, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for number, closeup in enumerate(closeups):
        row, column = divmod(number, across)
        pair = axes[row, 2 * column : 2 * column + 2]
        for axis, picture, name in zip(pair, closeup[1:3], ("before", "after"), strict=True):
            axis.imshow(picture)
            axis.add_collection(LineCollection(closeup.rings, colors=OUTLINE, linewidths=1.2))
            axis.set_title(f"{closeup.caption}\n{name}", fontsize=7)
    figure.suptitle(printable(title), fontsize=10, parse_math=False)
    _save(figure, path)


def _save(figure: Figure, path: str | Path) -> None:
    """Writes a PNG. ``savefig`` would draw twice, and compressing would take as long as drawing."""
    with whole_file(path) as part:
        FigureCanvasAgg(figure).print_png(part, pil_kwargs={"compress_level": FAST})


def area_text(square_metres: float) -> str:
    """An area as people write it: in square metres, hectares or square kilometres."""
    for unit, size in (("km²", 1e6), ("ha", 1e4)):
        if square_metres >= size:
            return f"{square_metres / size:,.2f} {unit}"
    return f"{square_metres:,.0f} m²"


def _draw_scale(axis: Axes, metres: float, width: int, height: int) -> None:
    """Draws a bar of a round length at the lower left."""
    most = SCALE_SHARE * width * metres
    power = 10.0 ** math.floor(math.log10(most))
    length = max(step * power for step in (1, 2, 5) if step * power <= most)
    text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    left, bottom = 0.03 * width, height - 0.05 * height
    right = left + length / metres
    for colour, thick in (("black", 5), ("white", 2.5)):
        axis.plot([left, right], [bottom, bottom], color=colour, linewidth=thick)
    _write(axis, (left + right) / 2, bottom - 0.02 * height, text, "bottom")


def _draw_north(axis: Axes, degrees: float, side: int) -> None:
    """Draws an arrow to the north at the upper left."""
    angle, length = math.radians(degrees), 0.07 * side
    x, y = 0.08 * side, 0.1 * side
    step = 0.5 * length * math.sin(angle), -0.5 * length * math.cos(angle)
    tail, tip = ((x - sign * step[0], y - sign * step[1]) for sign in (1, -1))
    for colour, thick in (("black", 4), ("white", 2)):
        axis.annotate(
            "", xy=tip, xytext=tail,
            arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": thick},
        )  # fmt: skip
    _write(axis, x + 1.9 * step[0], y + 1.9 * step[1], "N", "center")


def _write(axis: Axes, x: float, y: float, text: str, vertical: str) -> None:
    around = [Stroke(linewidth=2.5, foreground="black"), Normal()]
    axis.text(x, y, text, color="white", fontsize=8, ha="center", va=vertical, path_effects=around)

"""Draws a picture of the changes in a scene."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ctma.figures.sheets import printable
from ctma.files import whole_file
from ctma.types import Pixels, Plane

SIDE = 5.0
"""Inches of a picture's longer side."""

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
    """

    before: Pixels
    after: Pixels
    probability: Plane
    outlines: list[NDArray[np.float64]]
    changes: int


def save_scene(path: str | Path, overview: Overview, title: str) -> None:
    """Writes both dates, the probability, and the polygons over the date after, as a PNG.

    Args:
        path: The path of the PNG.
        overview: The data to show.
        title: The title of the picture.

    Raises:
        OutputError: If the file cannot be written.
    """
    before, after, probability, outlines, changes = overview
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
    caption = f"{changes} polygon{'s' * (changes != 1)}"
    names = ("before", "after", "probability of change", caption)
    for axis, name in zip(axes.flat, names, strict=True):
        axis.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        axis.set_title(name, fontsize=9)
    figure.colorbar(shown, ax=axes[1, 0], shrink=0.7, pad=0.01)
    figure.suptitle(printable(title), fontsize=10, parse_math=False)
    with whole_file(path) as part:
        figure.savefig(part, format="png")

"""A picture of what was found in a scene."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ctma.files import whole_file

OUTLINE = "#ff2d1a"
NOTHING = "#30343b"
"""Colour of pixels without data."""


def save_scene(
    path: str | Path,
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    probability: NDArray[np.float32],
    outlines: Sequence[NDArray[np.float64]],
    changes: int,
    title: str,
) -> None:
    """Writes both dates, the probability, and the polygons over the date after, as a PNG.

    Args:
        path: Where to.
        before: (H, W, 3).
        after: (H, W, 3).
        probability: (H, W) in [0, 1], NaN where there is no data.
        outlines: Rings of polygons, each (N, 2) columns and rows.
        changes: How many polygons there are.
        title: Above everything.

    Raises:
        OutputError: If the file cannot be written.
    """
    height, width = probability.shape
    side = 5.0
    figure = Figure(
        figsize=(2 * side, 2 * side * height / width + 0.7), layout="constrained", dpi=100
    )
    axes = figure.subplots(2, 2)
    colours = colormaps["inferno"].with_extremes(bad=NOTHING)
    axes[0, 0].imshow(before)
    axes[0, 1].imshow(after)
    shown = axes[1, 0].imshow(probability, cmap=colours, vmin=0, vmax=1, interpolation="nearest")
    axes[1, 1].imshow(after)
    axes[1, 1].add_collection(LineCollection(outlines, colors=OUTLINE, linewidths=0.9))
    found = f"{changes} polygon{'s' * (changes != 1)}"
    names = ("before", "after", "probability of change", found)
    for axis, name in zip(axes.flat, names, strict=True):
        axis.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        axis.set_title(name, fontsize=9)
    figure.colorbar(shown, ax=axes[1, 0], shrink=0.7, pad=0.01)
    figure.suptitle(title, fontsize=10)
    with whole_file(path) as part:
        figure.savefig(part, format="png")

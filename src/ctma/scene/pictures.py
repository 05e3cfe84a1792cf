"""Draws the pictures of a map. A map is complete without them, so none of them fails a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ctma.errors import first_line
from ctma.scene.finished import FinishedMap
from ctma.scene.names import LARGEST, PICTURE
from ctma.types import Pixels, Say

T = TypeVar("T")


def try_overview(
    finished: FinishedMap,
    probability: Path,
    pictures: tuple[Pixels, Pixels],
    output: Path,
    say: Say,
) -> None:
    """Draws ``overview.png`` into the map's folder.

    Args:
        finished: The finished map; its rasters may still be missing.
        probability: A raster of the probability as stored.
        pictures: Both dates as the network saw them.
        output: The folder that the user knows.
        say: Called with one line if the picture cannot be drawn.
    """

    def draw() -> None:
        from ctma.scene.overview import draw_overview

        draw_overview(finished, probability, pictures)

    _try(draw, output / PICTURE, say)


def try_largest(finished: FinishedMap, count: int, say: Say) -> Path | None:
    """Draws ``largest.png``; ``None`` if there is no change, or the picture cannot be drawn."""

    def draw() -> Path | None:
        from ctma.scene.overview import draw_largest

        return draw_largest(finished, count)

    return _try(draw, finished.folder / LARGEST, say)


def _try(draw: Callable[[], T], path: Path, say: Say) -> T | None:
    try:
        return draw()
    except Exception as error:  # noqa: BLE001
        say(f"{path}: could not be drawn ({first_line(error)})")
        return None

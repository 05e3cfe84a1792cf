"""Opens the map in a folder, of whichever kind."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from ctma.errors import DataError
from ctma.review.changes import ReviewedMap
from ctma.review.images import open_images
from ctma.review.scenes import open_scene
from ctma.scene.finished import read_finished
from ctma.scene.names import is_map


def open_map(
    folder: str | Path, before: str | Path | None = None, after: str | Path | None = None
) -> AbstractContextManager[ReviewedMap]:
    """Opens the map of a scene, or the masks of image pairs.

    Args:
        folder: The folder that ``ctma predict`` wrote.
        before: Where the date before lies now; by default where it lay.
        after: Where the date after lies now.

    Raises:
        DataError: If the folder holds neither.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    if is_map(folder):
        return open_scene(read_finished(folder), before, after)
    scenes = sorted(path.name for path in folder.iterdir() if path.is_dir() and is_map(path))
    if scenes:
        raise DataError(f"{folder}: holds several maps; name one, such as {folder / scenes[0]}")
    return open_images(folder, before, after)

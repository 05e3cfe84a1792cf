"""The page of a survey: one place at a time, without what the map says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ctma.files import refuse_existing
from ctma.review.changes import MappedChange
from ctma.review.page import ReviewPage, check_share, fill_page
from ctma.review.scenes import open_scene
from ctma.scene.finished import FinishedMap, read_finished
from ctma.survey.samples import Design, check_map, outline_places, read_sample
from ctma.types import Progress, ignore

PAGE = "survey.html"
"""The page, in the folder of the map."""


def write_survey(
    folder: str | Path,
    sample: str | Path,
    output: str | Path | None = None,
    *,
    repeat: float = 0.0,
    before: str | Path | None = None,
    after: str | Path | None = None,
    overwrite: bool = False,
    on_progress: Progress = ignore,
) -> ReviewPage:
    """Writes a page that asks of each place of a sample whether the ground changed.

    The page is one file. It shows both dates, and nothing of what the map says.

    Args:
        folder: The folder that ``predict_scene`` wrote.
        sample: The file that ``draw_sample`` wrote.
        output: The HTML file; by default ``survey.html`` in the folder.
        repeat: Share of the places to show twice, in [0, 1].
        before: Where the raster before lies now; by default where it lay.
        after: Where the raster after lies now.
        overwrite: Whether to replace the file ``output`` if it exists.
        on_progress: Called after every place with the number of finished places and of all.

    Raises:
        DataError: If the folder holds no map, or the sample is damaged or of another map.
        SettingError: If ``repeat`` is out of range.
        OutputError: If the file cannot be written.
    """
    check_share("repeat", repeat)
    path = Path(folder) / PAGE if output is None else Path(output)
    if output is not None:
        refuse_existing(path, overwrite)
    finished = read_finished(folder)
    with open_scene(finished, before, after) as reviewed:
        design, places = _describe(finished, Path(sample), reviewed.changes)
        asked = replace(reviewed, changes=places, survey=design.model_dump(mode="json"))
        return fill_page(
            path, asked, order="survey", most=len(places), repeat=repeat, on_progress=on_progress
        )


def _describe(
    finished: FinishedMap, path: Path, changes: list[MappedChange]
) -> tuple[Design, list[MappedChange]]:
    """The design, and the places as entries of a page."""
    design, places = read_sample(path)
    check_map(design, finished, path)
    known = {change.id: change.outline for change in changes}
    outlines = outline_places(finished, places, known)
    return design, [
        MappedChange(0, place.id, 0.0, None, outline)
        for place, outline in zip(places, outlines, strict=True)
    ]

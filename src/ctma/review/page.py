"""Writes the review page: one HTML file with the map, its changes, and what decides on them."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from importlib import resources
from itertools import islice
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from PIL import Image

from ctma._version import __version__
from ctma.errors import SettingError, UnknownNameError, warn
from ctma.figures.colours import colour_probability
from ctma.files import refuse_existing, whole_file
from ctma.review.changes import MOST_SIDE, MappedChange, Place, ReviewedMap, shown_window
from ctma.review.maps import open_map
from ctma.review.teaching import STILL, rank_by_teaching
from ctma.scene.names import PAGE
from ctma.scene.source import OVERVIEW_SIDE
from ctma.scene.strips import NO_DATA, STEPS
from ctma.settings import check_count
from ctma.types import Pixels, Progress, ignore

ORDERS = ("doubt", "area", "place", "learn")
"""Orders of the list: nearest to the threshold first, largest first, from top to bottom, and places
whose labels teach most, with places that show no change."""

READING_ROWS = 256
"""Rows of the map that are read from left to right before the next ones."""

MOST_POINTS = 60_000
"""Largest number of points in all outlines of a page; beyond, outlines are simplified."""

QUALITY = 85
"""JPEG quality of the pictures."""

SCRIPTS = ("geometry.js", "decisions.js", "view.js", "tool.js", "main.js")


@dataclass(frozen=True)
class ReviewPage:
    """A review page that was written.

    Attributes:
        path: The HTML file.
        changes: Number of changes of the map.
        shown: Number of changes on the page.
        total_bytes: Size of the file.
        picture_bytes: Bytes of the pictures in the file.
    """

    path: Path
    changes: int
    shown: int
    total_bytes: int
    picture_bytes: int


def write_review(
    folder: str | Path,
    output: str | Path | None = None,
    *,
    most: int = 500,
    order: str = "doubt",
    repeat: float = 0.0,
    before: str | Path | None = None,
    after: str | Path | None = None,
    overwrite: bool = False,
    on_progress: Progress = ignore,
) -> ReviewPage:
    """Writes a page to look at the changes of a map and to decide on each of them.

    The page is one file. It asks no server for anything. Warns about a date that is not at hand:
    the page goes without its pictures.

    Args:
        folder: The folder that ``predict_scene`` or ``predict_files`` wrote.
        output: The HTML file; by default ``review.html`` in the folder.
        most: Largest number of changes on the page, the first ones by ``order``.
        order: One of ``ORDERS``: ``"doubt"``, ``"area"``, ``"place"`` or ``"learn"``.
        repeat: Share of the changes to show twice, in [0, 1].
        before: Where the raster or the images before lie now; by default where they lay.
        after: Where the raster or the images after lie now.
        overwrite: Whether to replace the file ``output`` if it exists.
        on_progress: Called after every change with the number of finished changes and of all.

    Raises:
        DataError: If the folder holds no map.
        UnknownNameError: If there is no such order.
        SettingError: If a number is out of range.
        OutputError: If the file cannot be written.
    """
    _check(most, order, repeat)
    path = Path(folder) / PAGE if output is None else Path(output)
    if output is not None:
        refuse_existing(path, overwrite)
    with open_map(folder, before, after) as reviewed:
        return fill_page(
            path, reviewed, most=most, order=order, repeat=repeat, on_progress=on_progress
        )


def fill_page(
    path: Path,
    reviewed: ReviewedMap,
    *,
    order: str,
    most: int = 500,
    repeat: float = 0.0,
    on_progress: Progress = ignore,
) -> ReviewPage:
    """Writes the page of an open map; see ``write_review``."""
    shown = _choose(reviewed, most, order)
    places = _choose_places(reviewed, shown, most)
    data = _describe(reviewed, shown, places, order, repeat, on_progress)
    for noun, some, all_of in (
        ("changes", [one for one in shown if one.kind != STILL], reviewed.changes),
        ("pairs of images", places, reviewed.places),
    ):
        if len(some) < len(all_of):
            warn(f"{path}: shows {len(some)} of {len(all_of)} {noun}; raise `most`")
    page = _fill(data)
    with whole_file(path) as part:
        part.write_text(page, encoding="utf-8")
    return ReviewPage(
        path, len(reviewed.changes), len(shown), len(page.encode()), sum(_picture_sizes(data))
    )


def _check(most: int, order: str, repeat: float) -> None:
    check_count("most", most)
    if order not in ORDERS:
        raise UnknownNameError("order", order, ORDERS)
    check_share("repeat", repeat)


def check_share(name: str, share: float) -> None:
    """Refuses a share outside of [0, 1].

    Raises:
        SettingError: If it is outside.
    """
    if not 0 <= share <= 1:
        raise SettingError(f"`{name}` {share}: a share between 0 and 1")


def _choose(reviewed: ReviewedMap, most: int, order: str) -> list[MappedChange]:
    if reviewed.survey is not None:
        return reviewed.changes
    if order == "learn":
        return rank_by_teaching(reviewed)[:most]
    ranks: dict[str, Callable[[MappedChange], Any]] = {
        "doubt": lambda change: abs((change.mean or 0) - reviewed.threshold),
        "area": lambda change: -change.area,
        "place": _reading_place,
    }
    return sorted(reviewed.changes, key=ranks[order])[:most]


def _choose_places(reviewed: ReviewedMap, shown: list[MappedChange], most: int) -> list[int]:
    """Indices of the places on the page: those of shown changes, then others up to ``most``."""
    needed = dict.fromkeys(sorted({change.place for change in shown}))
    others = (index for index in range(len(reviewed.places)) if index not in needed)
    room = max(0, most - len(needed))
    return sorted([*needed, *islice(others, room)])


def _reading_place(change: MappedChange) -> tuple[int, int, float]:
    left, top, _, _ = change.outline.bounds
    return change.place, int(top // READING_ROWS), left


def _describe(
    reviewed: ReviewedMap,
    shown: list[MappedChange],
    places: list[int],
    order: str,
    repeat: float,
    on_progress: Progress,
) -> dict[str, Any]:
    """All that the page knows, as plain values."""
    repeats = random.Random(0).sample(range(len(shown)), round(repeat * len(shown)))
    return {
        "title": reviewed.title,
        "fingerprint": reviewed.fingerprint,
        "threshold": reviewed.threshold,
        "unit": reviewed.unit,
        "georeferenced": all(place.degrees is not None for place in reviewed.places),
        "order": order,
        "total": len(reviewed.changes),
        "decide": reviewed.decide,
        "survey": reviewed.survey,
        "places": [
            _describe_place(reviewed.places[index], hide=reviewed.survey is not None)
            for index in places
        ],
        "changes": _describe_changes(reviewed.places, places, shown, on_progress),
        "repeats": repeats,
    }


def _describe_place(place: Place, *, hide: bool) -> dict[str, Any]:
    """A place; what the map says of it can be hidden."""
    before, after = place.read_whole()
    return {
        "name": place.name,
        "width": place.width,
        "height": place.height,
        "degrees": None if place.degrees is None else place.degrees._asdict(),
        "before": _jpeg(before),
        "after": _jpeg(after),
        "probability": None if hide else _colour(place.read_probability()),
    }


def _describe_changes(
    places: list[Place], on_page: list[int], shown: list[MappedChange], on_progress: Progress
) -> list[dict[str, Any]]:
    reading = {id(change): rank for rank, change in enumerate(sorted(shown, key=_reading_place))}
    tolerance = _find_tolerance(shown)
    described: list[dict[str, Any]] = [{}] * len(shown)
    # By place, so that each image is read once.
    for index in sorted(range(len(shown)), key=lambda index: shown[index].place):
        change = shown[index]
        place = places[change.place]
        bounds, size = change.outline.bounds, (place.width, place.height)
        window, shape = shown_window(bounds, size)
        # The picture of a small place shows each pixel already.
        small = max(size) <= OVERVIEW_SIDE
        before, after = (None, None) if small else place.read(window, shape)
        described[index] = {
            "key": f"{change.place}/{change.id}",
            "id": change.id,
            "place": on_page.index(change.place),
            "area": round(change.area, 1),
            "mean": None if change.mean is None else round(change.mean, 4),
            "kind": change.kind,
            "rank": index,
            "reading": reading[id(change)],
            "outline": _rings(change, tolerance),
            "box": [window.col_off, window.row_off, window.width, window.height],
            "before": _jpeg(before),
            "after": _jpeg(after),
        }
        on_progress(sum(map(bool, described)), len(shown))
    return described


def _find_tolerance(shown: list[MappedChange]) -> float:
    """Pixels by which outlines are simplified, so that a page holds not too many points."""
    tolerance = 0.0
    while (
        tolerance < MOST_SIDE
        and sum(sum(map(len, _rings(change, tolerance))) for change in shown) > MOST_POINTS
    ):
        tolerance = 2 * tolerance or 0.5
    return tolerance


def _rings(change: MappedChange, tolerance: float) -> list[list[list[float]]]:
    """Outer ring and holes, not closed."""
    outline = change.outline.simplify(tolerance) if tolerance else change.outline
    largest = max(getattr(outline, "geoms", [outline]), key=lambda part: part.area)
    rings = (largest.exterior, *largest.interiors)
    points = (np.asarray(ring.coords)[:-1, :2].round(2).tolist() for ring in rings)
    return [[[_short(x), _short(y)] for x, y in ring] for ring in points]


def _short(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _jpeg(picture: Pixels | None) -> str | None:
    if picture is None:
        return None
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=QUALITY)
    return _address("jpeg", stream.getvalue())


def _colour(stored: Pixels) -> str:
    """The probability as a picture that is clear where the probability is small."""
    share = np.where(stored == NO_DATA, 0, stored / STEPS)
    alpha = np.rint(220 * np.sqrt(share)).astype(np.uint8)
    colours = np.dstack([np.where(alpha[..., None] > 0, colour_probability(share), 0), alpha])
    stream = io.BytesIO()
    Image.fromarray(colours).save(stream, "PNG", optimize=True)
    return _address("png", stream.getvalue())


def _address(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _picture_sizes(data: dict[str, Any]) -> Iterator[int]:
    for shown in (*data["places"], *data["changes"]):
        yield from (len(shown.get(name) or "") for name in ("before", "after", "probability"))


def _fill(data: dict[str, Any]) -> str:
    assets = resources.files("ctma.review") / "assets"
    script = "\n".join((assets / name).read_text("utf-8") for name in SCRIPTS)
    style = (assets / "page.css").read_text("utf-8")
    # Within a script, HTML ends at `</script`, and may begin a comment at `<!--`.
    content = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return Template((assets / "page.html").read_text("utf-8")).substitute(
        title=escape(_printable(f"{'Survey' if data['survey'] else 'Review'} of {data['title']}")),
        version=__version__,
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        data=content,
    )


def _printable(text: str) -> str:
    """Text without the parts of a file name that are no characters."""
    return text.encode("utf-8", "replace").decode()


def _hash(text: str) -> str:
    """The name by which a browser allows this script or style, and no other."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"

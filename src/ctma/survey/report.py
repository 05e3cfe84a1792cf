"""The report of a survey: a page that can go into an appendix, as HTML and as Markdown."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ctma._version import __version__
from ctma.files import whole_file
from ctma.scene.finished import FinishedMap, read_reduced
from ctma.scene.strips import NO_DATA
from ctma.types import Pixels, counted

PICTURE_SIDE = 1200
"""Longer side of the map of the points, in pixels."""

GROUND, MAPPED, EMPTY = (238, 238, 232), (160, 160, 160), (255, 255, 255)
DOTS = {1: (208, 59, 47), 0: (31, 119, 200), -1: (230, 150, 0)}
"""Colours of places that changed, of others, and of those without a certain answer."""

SQUARE_METRES = 10_000.0
"""Square metres of a hectare."""

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;"
    "color:#1b1e23}table{border-collapse:collapse;margin:1rem 0}th,td{border:1px solid #c9ced6;"
    "padding:4px 10px;text-align:right}th:first-child,td:first-child{text-align:left}"
    "img{max-width:100%;border:1px solid #c9ced6}"
)

PICTURE = "The places on the map"


Row = tuple[str, ...]


class Table(NamedTuple):
    """A table of text; the first row names the columns."""

    rows: list[Row]


Block = str | Table
Section = tuple[str, list[Block]]


def draw_places(
    finished: FinishedMap,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    true: NDArray[np.int64],
    side: int,
) -> bytes:
    """A picture of the map with its places, as PNG: red changed, blue did not, orange is unsure."""
    mask = read_reduced(finished.mask, side)
    picture: Pixels = np.full((*mask.shape, 3), GROUND, np.uint8)
    picture[mask == 1], picture[mask == NO_DATA] = MAPPED, EMPTY
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    radius = max(3, max(mask.shape) // 200)
    scale = mask.shape[1] / finished.grid.width, mask.shape[0] / finished.grid.height
    for row, column, answer in zip(rows.tolist(), columns.tolist(), true.tolist(), strict=True):
        x, y = (column + 0.5) * scale[0], (row + 0.5) * scale[1]
        box = (x - radius, y - radius, x + radius, y + radius)
        pen.ellipse(box, fill=DOTS[answer], outline=(255, 255, 255))
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def write_report(
    files: Sequence[Path],
    finished: FinishedMap,
    result: dict[str, Any],
    picture: bytes | None,
    response: str,
) -> None:
    """Writes the report as HTML and as Markdown.

    Args:
        files: The HTML and the Markdown file, then others.
        finished: The map.
        result: What the survey says, as plain values.
        picture: The map of the points, as PNG.
        response: How reviewers decided, in the words of who asks.
    """
    names = " and ".join(Path(finished.summary[date]["path"]).name for date in ("before", "after"))
    title = f"How much changed between {names}"
    tell = _tell_survey if "design" in result else _tell_census
    sections = [*tell(result, response)]
    for path, text in zip(
        files, (_as_html(title, sections, picture), _as_markdown(title, sections)), strict=False
    ):
        with whole_file(path) as part:
            part.write_text(text, encoding="utf-8")


def _tell_census(result: dict[str, Any], response: str) -> Iterator[Section]:
    decided = result["right"] + result["wrong"]
    yield (
        "Result",
        [
            f"Of {counted(decided, 'decided change')}, {result['right']} are right: a user's "
            f"accuracy of {result['users']:.3f} by number, {result['users_by_area']:.3f} by area.",
            f"The map has {counted(result['changes'], 'change')}. Whatever the others are, "
            f"the user's accuracy by area is at least {result['users_least']:.3f} and at most "
            f"{result['users_most']:.3f}.",
            "These decisions are no probability sample. Nobody looked at the rest of the map, so "
            "no area of change follows, and no producer's accuracy. `ctma sample` draws a sample.",
        ],
    )
    yield "How reviewers decided", _tell_response(result, response)


def _tell_survey(result: dict[str, Any], response: str) -> Iterator[Section]:
    yield "Result", [_areas(result), *_accuracies(result), *_tell_intervals(result)]
    yield "How the places were drawn", [*_tell_design(result), _strata(result)]
    if result["overall"]:
        yield (
            "Error matrix",
            [
                "A row is a class of the map, a column one of the reviewers. Numbers of places:",
                _matrix(result["counts"], "{:d}"),
                "Shares of the ground:",
                _matrix(result["shares"], "{:.5f}"),
            ],
        )
    yield "How reviewers decided", _tell_response(result, response)
    yield "Deviations", [*(result["deviations"] or ["None."]), _tell_unsure(result)]


def hectares(square_metres: float) -> str:
    """An area in hectares, with as many digits as it needs."""
    area = square_metres / SQUARE_METRES
    digits = next((digits for least, digits in ((1000, 0), (1, 2)) if area >= least), 4)
    return f"{area:,.{digits}f}"


def _areas(result: dict[str, Any]) -> Table:
    rows: list[Row] = [
        (
            "ground",
            "mapped, ha",
            "estimated, ha",
            "standard error",
            "± 1.96 errors",
            "95 % interval",
        )
    ]
    kinds = {
        "change": (result["mapped"], result["change"]),
        "no change": (result["total"] - result["mapped"], result["no_change"]),
        "change, with the map's probability": (None, result["assisted"]),
    }
    for name, (mapped, estimate) in kinds.items():
        if estimate is not None:
            rows.append((
                name,
                "" if mapped is None else hectares(mapped),
                hectares(estimate["value"]),
                hectares(estimate["standard_error"]),
                hectares(1.96 * estimate["standard_error"]),
                f"{hectares(estimate['low'])} to {hectares(estimate['high'])}",
            ))  # fmt: skip
    return Table(rows)


def _accuracies(result: dict[str, Any]) -> Iterator[Block]:
    rows: list[Row] = [("accuracy", "estimate", "standard error", "95 % interval")]
    named = {
        "overall": result["overall"],
        "user's, change": result["users"][1],
        "user's, change, by number": result["users_by_number"],
        "user's, no change": result["users"][0],
        "producer's, change": result["producers"][1],
        "producer's, no change": result["producers"][0],
    }
    for name, estimate in named.items():
        if estimate is not None:
            rows.append((
                name,
                f"{estimate['value']:.3f}",
                f"{estimate['standard_error']:.3f}",
                f"{estimate['low']:.3f} to {estimate['high']:.3f}",
            ))  # fmt: skip
    yield Table(rows)


def _tell_intervals(result: dict[str, Any]) -> Iterator[Block]:
    yield (
        "The estimators are those of Olofsson et al. (2014) and Stehman (2014). The intervals join "
        "Wilson's limits of all strata (Zou and Donner, 2008), so that strata without an error "
        "count as well."
    )
    if result["assisted"]:
        yield (
            "The line with the map's probability is a difference estimator (Särndal et al., 1992). "
            "It is shown beside the plain line, not in its place."
        )
    if not result["overall"]:
        yield (
            "Mapped changes were drawn. So the area is that of change among them. What the map "
            "missed is not known."
        )


def _tell_design(result: dict[str, Any]) -> Iterator[Block]:
    settings = result["design"]["settings"]
    way = (
        f"at random within strata, with {settings['allocation']} allocation"
        if settings["design"] == "stratified"
        else "on a regular grid with a random start"
    )
    yield (
        f"{counted(result['design']['points'], 'place')}, drawn {way}. A place is "
        f"{'a pixel' if settings['units'] == 'pixels' else 'a mapped change'}. Seed "
        f"{settings['seed']}, map {result['design']['map']}, sample {result['design']['sample']}, "
        f"ctma {__version__}."
    )


def _strata(result: dict[str, Any]) -> Table:
    rows: list[Row] = [("stratum", "ground, ha", "share", "answered places", "of these changed")]
    for stratum in result["strata"]:
        rows.append((
            stratum["name"],
            hectares(stratum["area"]),
            f"{stratum['area'] / result['total']:.4f}",
            str(stratum["places"]),
            str(stratum["change"]),
        ))  # fmt: skip
    return Table(rows)


def _matrix(values: list[list[Any]], form: str) -> Table:
    names = ("no change", "change")
    rows: list[Row] = [("map", *names)]
    rows += [
        (name, *(form.format(value) for value in row))
        for name, row in zip(names, values, strict=True)
    ]
    return Table(rows)


def _tell_response(result: dict[str, Any], response: str) -> list[Block]:
    told: list[Block] = [response] if response else []
    if result["reviewers"]:
        told.append(f"Reviewers: {', '.join(result['reviewers'])}.")
    if result.get("seconds"):
        told.append(f"An answer took {result['seconds']:.0f} seconds in the median.")
    for one in result["agreements"]:
        who = (
            one["first"] if one["first"] == one["second"] else f"{one['first']} and {one['second']}"
        )
        twice = ", shown twice" if one["first"] == one["second"] else ""
        kappa = "" if one["kappa"] is None else f", Cohen's kappa {one['kappa']:.2f}"
        told.append(f"{who}{twice}: {one['same']} of {one['changes']} decided alike{kappa}.")
    return told or ["Nothing is recorded of it."]


def _tell_unsure(result: dict[str, Any]) -> str:
    none, every = result["unsure_none"], result["unsure_all"]
    if none == every:
        return "No place is without a certain answer among those answered."
    return (
        f"If no unsure place had changed, {hectares(none)} ha would have changed; if each had, "
        f"{hectares(every)} ha."
    )


def _as_markdown(title: str, sections: Sequence[Section]) -> str:
    parts = [f"# {title}"]
    for heading, blocks in sections:
        parts.append(f"## {heading}")
        for block in blocks:
            parts.append(block if isinstance(block, str) else _table_as_markdown(block))
    return "\n\n".join(parts) + "\n"


def _table_as_markdown(table: Table) -> str:
    first, *rest = (f"| {' | '.join(row)} |" for row in table.rows)
    line = f"|{'---|' * len(table.rows[0])}"
    return "\n".join((first, line, *rest))


def _as_html(title: str, sections: Sequence[Section], picture: bytes | None) -> str:
    parts = [f"<h1>{escape(title)}</h1>"]
    for heading, blocks in sections:
        parts.append(f"<h2>{escape(heading)}</h2>")
        for block in blocks:
            parts.append(
                f"<p>{escape(block)}</p>" if isinstance(block, str) else _table_as_html(block)
            )
    if picture is not None:
        source = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
        parts.append(
            f'<h2>{PICTURE}</h2><img src="{source}" alt="The map with all places that were '
            'answered"><p>Grey is what the map calls change. Red places changed, blue ones did '
            "not, orange ones have no certain answer.</p>"
        )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _table_as_html(table: Table) -> str:
    head, *body = table.rows
    names = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in body
    )
    return f"<table><tr>{names}</tr>{rows}</table>"

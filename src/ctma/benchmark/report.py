"""Writes a benchmark's records as tables: Markdown, JSON, and HTML with pictures."""

from __future__ import annotations

import base64
import html
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ctma.benchmark import published
from ctma.benchmark.cell import MASKS, most_changed
from ctma.benchmark.health import HEALTH
from ctma.benchmark.matrix import COSTS
from ctma.benchmark.plan import PLAN, BenchmarkPlan, Budget, read_plan
from ctma.benchmark.published import find_published
from ctma.benchmark.record import (
    PICKED_ON,
    ScoreOfMasks,
    ScoreOfTraining,
    add_others,
    failures,
    read_kept,
    read_records,
)
from ctma.benchmark.table import OBJECTS, SCORES, Row, Spread, make_rows, scene_of
from ctma.data.images import read_label
from ctma.data.pairs import find_coding, read_sample
from ctma.data.readers import data_fingerprint
from ctma.errors import DataError, warn
from ctma.figures.curves import save_precision_recall
from ctma.figures.sheets import save_sheet
from ctma.files import whole_file, write_json
from ctma.types import counted

TABLES = ("table.md", "table.json", "table.html")
CURVES, SHEET = "curves.png", "masks.jpg"

FEW_SEEDS, FEW_SCENES = 5, 20
"""Numbers of seeds and scenes below which a bootstrap's range is too narrow."""


def write_benchmark_report(folder: str | Path, *, others: Sequence[str | Path] = ()) -> list[Path]:
    """Writes ``table.md``, ``table.json`` and ``table.html`` of a benchmark.

    Args:
        folder: The benchmark's folder.
        others: Scores of masks that others made, see ``evaluate_masks``, for the same table.

    Returns:
        The written files.

    Raises:
        DataError: If there are no records, or the records are not comparable.
    """
    folder = Path(folder)
    records = add_others(read_records(folder), map(Path, others))
    plan = read_plan(folder)
    if plan is None:
        raise DataError(f"{folder}: its plan ({PLAN}) is gone")
    costs = read_kept(folder / COSTS)
    rows = make_rows(records, costs, find_published(records[0].data_name))
    notes = [
        *_how(plan, records, read_kept(folder / HEALTH)),
        *_differences(plan, rows, records[0]),
    ]
    notes += failure_notes(folder)
    markdown, data, page = (folder / name for name in TABLES)
    pictures = [save_precision_recall(folder / CURVES, {row.network: row.curve for row in rows})]
    pictures += _draw_masks(folder, plan, records[0], rows)
    tables = [pixel_table(rows), object_table(rows)]
    with whole_file(markdown) as part:
        part.write_text("\n\n".join([*map(_as_markdown, tables), _as_list(notes)]) + "\n")
    write_json(
        data,
        {
            "rows": [asdict(row) for row in rows],
            "notes": notes,
            "records": [one.model_dump(mode="json") for one in records],
        },
    )
    with whole_file(page) as part:
        part.write_text(_as_page(tables, notes, pictures))
    return [markdown, data, page, *pictures]


def failure_notes(folder: Path) -> list[str]:
    """A line for each training that failed."""
    return [f"{one.network}-{one.seed} failed: {one.reason}" for one in failures(folder)]


def pixel_table(rows: Sequence[Row]) -> list[list[str]]:
    """Scores of pixels in percent, and costs; the first line has the names of the columns."""
    head = ["network", "seeds", "precision", "recall", "F1", "IoU", "parameters", "GMAC",
            "pairs/s", "behind the best", "published F1", "here less published"]  # fmt: skip
    return [head, *map(_pixel_line, rows)]


def object_table(rows: Sequence[Row]) -> list[list[str]]:
    """Scores of whole objects, such as buildings; the first line has the names of the columns."""
    head = ["network", "objects found", "missed", "false", "F1 of objects"]
    return [
        head,
        *(
            [
                row.network,
                *(_count(row.object_scores[name]) for name in OBJECTS),
                _percent(row.object_scores["f1"]),
            ]
            for row in rows
        ),
    ]


def _pixel_line(row: Row) -> list[str]:
    costs = ["", "", ""]
    if row.costs:
        speed = row.costs["pairs_a_second"]
        costs = [f"{row.costs['parameters']:,}", f"{row.costs['gmac']:.1f}", f"{speed:.2f}"]
    behind = "best"
    if row.behind is not None:
        middle, low, high = (100 * value for value in row.behind)
        mark = " ≈" if row.as_good_as_the_best else ""
        behind = f"{middle:.2f} [{low:.2f}, {high:.2f}]{mark}"
    figures = ["", ""]
    if row.published is not None:
        less = 100 * row.scores["f1"].mean - row.published
        figures = [f"{row.published:.2f}", f"{less:+.2f}"]
    shown = (_percent(row.scores[name]) for name in SCORES)
    return [row.network, str(row.seeds or "masks"), *shown, *costs, behind, *figures]


def _how(
    plan: BenchmarkPlan, records: Sequence[ScoreOfMasks], health: Mapping[str, Any]
) -> list[str]:
    """Notes that explain the table."""
    first = records[0]
    trained = [record for record in records if isinstance(record, ScoreOfTraining)]
    scenes = {scene_of(pair.name) for pair in first.per_pair}
    lines = [
        f"{first.data_name}, {first.split} split, {counted(first.pairs, 'pair')} of "
        f"{counted(len(scenes), 'scene')}, data {first.data}; protocol {first.protocol}, "
        f"threshold {first.threshold}, {first.arithmetic}, engine {first.engine}",
        f"each checkpoint of a training here was picked on {PICKED_ON} by F1; the test split was "
        "looked at once a training",
        f"code {first.field('code')}, ctma {first.ctma_version}; {_machines(trained)}",
        "behind the best: F1 of the best less this one's, and the range that 95 % of resamplings "
        "of scenes and seeds fall in; ≈ where it holds 0, so that the difference may be chance",
        "an object is found where label and mask share at least half of what either covers",
        _recipes(plan, trained),
    ]
    for split, leaks in health.get("leaks", {}).items():
        if leaks:
            shown = f"{counted(len(leaks), 'case')}, such as {leaks[0]}"
            lines.append(f"{split} shows scenes of test ({shown})")
    if foreign := [record.network for record in records if record.seed is None]:
        lines.append(
            f"masks that others made, of trainings that nothing is known of: {', '.join(foreign)}"
        )
    seeds = Counter(record.network for record in trained)
    if min(seeds.values()) < FEW_SEEDS or len(scenes) < FEW_SCENES:
        lines.append(
            f"with {counted(min(seeds.values()), 'seed')} and {counted(len(scenes), 'scene')} the "
            "ranges are themselves uncertain, and rather too narrow than too wide"
        )
    return lines


def _recipes(plan: BenchmarkPlan, trained: Sequence[ScoreOfTraining]) -> str:
    names = ", ".join(dict.fromkeys(record.recipe.name for record in trained))
    budget = f", {plan.budget}" if plan.budget else ""
    changed = f", changed by {', '.join(plan.settings)}" if plan.settings else ""
    weights = "none begins with ImageNet weights"
    if plan.pretrained:
        weights = "ImageNet weights where a network's recipe has them"
    return f"recipes {names}{budget}{changed}; {weights}"


def _machines(records: Sequence[ScoreOfTraining]) -> str:
    machines = dict.fromkeys(
        f"{record.machine.device}, {counted(record.machine.threads, 'thread')}, torch "
        f"{record.machine.torch}"
        for record in records
    )
    return "; ".join(machines)


def _differences(plan: BenchmarkPlan, rows: Sequence[Row], record: ScoreOfMasks) -> list[str]:
    """Notes on why scores here and published scores may differ."""
    data = find_published(record.data_name)
    if data is None or not any(row.published for row in rows):
        return []
    reasons = []
    if data in published.PAIRS and isinstance(record, ScoreOfTraining):
        pairs = record.training_data.pairs
        reasons.append(
            f"published ones are of {published.PAIRS[data]:,} training pairs, these of {pairs:,}"
        )
    if data in published.PAIRS and plan.budget is not None:
        whole = published.PAIRS[data] * published.DRAWS[data] * 256**2
        share = Budget.parse(plan.budget).pixels / whole
        reasons.append(
            f"a training here sees {100 * share:.2g} % of the pixels of CTMA's released recipe"
        )
    if plan.budget is not None:
        reasons.append("rates under a budget were not tuned for any network")
    reasons.append(
        f"the test split may not be the published one, which the data folder does not tell "
        f"({counted(record.pairs, 'pair')} here)"
    )
    return ["why figures and published ones may differ: " + "; ".join(reasons)]


def _draw_masks(
    folder: Path, plan: BenchmarkPlan, record: ScoreOfMasks, rows: Sequence[Row]
) -> list[Path]:
    """A sheet of the pairs with the most change and all networks' masks, if the data are there."""
    try:
        pairs = plan.pairs(record.split)
    except DataError as error:
        warn(f"no pictures of masks: {error}")
        return []
    if data_fingerprint(pairs) != record.data:
        warn("no pictures of masks: the data are not as they were")
        return []
    coding = find_coding(pairs)
    shown = most_changed(pairs)
    names = [pair.name for pair in shown]
    # One line per network: with many networks, one line per pair would be too wide to read.
    lines: dict[str, dict[str, Any]] = {"before": {}, "after": {}, "label": {}}
    for pair in shown:
        tiles = zip(lines, read_sample(pair, coding), strict=True)
        for kind, tile in tiles:
            lines[kind][pair.name] = tile == 1 if kind == "label" else tile
    for row in rows:
        masks = {name: folder / MASKS / row.network / f"{name}.png" for name in names}
        if all(mask.is_file() for mask in masks.values()):
            lines[row.network] = {name: read_label(mask) // 255 for name, mask in masks.items()}
    save_sheet(folder / SHEET, [*lines.values()], "Masks of the first seed", [*lines])
    return [folder / SHEET]


def _as_markdown(table: Sequence[Sequence[str]]) -> str:
    head, *lines = (f"| {' | '.join(line)} |" for line in table)
    return "\n".join([head, "|" + "---|" * len(table[0]), *lines])


def _as_list(notes: Sequence[str]) -> str:
    return "\n".join(f"- {note}" for note in notes)


def _as_page(
    tables: Sequence[Sequence[Sequence[str]]], notes: Sequence[str], pictures: Sequence[Path]
) -> str:
    """The report as one HTML file, with embedded pictures."""
    out = io.StringIO()
    out.write("<!doctype html><meta charset=utf-8><title>ctma benchmark</title><style>")
    out.write("body{font:15px sans-serif;margin:2em}td,th{padding:.3em .7em;text-align:right}")
    out.write(
        "td:first-child,th:first-child{text-align:left}tr:nth-child(even){background:#f3f3f3}"
    )
    out.write("img{max-width:100%}</style><h1>Benchmark</h1>")
    for head, *lines in tables:
        out.write("<table><tr>" + "".join(f"<th>{html.escape(cell)}" for cell in head))
        for line in lines:
            out.write("<tr>" + "".join(f"<td>{html.escape(cell)}" for cell in line))
        out.write("</table>")
    out.write("<ul>" + "".join(f"<li>{html.escape(note)}" for note in notes) + "</ul>")
    for picture in pictures:
        kind = "png" if picture.suffix == ".png" else "jpeg"
        data = base64.b64encode(picture.read_bytes()).decode()
        out.write(
            f'<p><img alt="{html.escape(picture.stem)}" src="data:image/{kind};base64,{data}">'
        )
    return out.getvalue()


def _percent(spread: Spread) -> str:
    return _with_deviation(100 * spread.mean, spread.deviation and 100 * spread.deviation, 2)


def _count(spread: Spread) -> str:
    return _with_deviation(spread.mean, spread.deviation, 0)


def _with_deviation(middle: float, deviation: float | None, digits: int) -> str:
    shown = f"{middle:.{digits}f}"
    return shown if deviation is None else f"{shown} ± {deviation:.{digits}f}"

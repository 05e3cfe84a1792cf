"""A benchmark's records as a table for people, for programs, and with pictures."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ctma.benchmark import published
from ctma.benchmark.cell import MASKS, most_changed
from ctma.benchmark.matrix import COSTS, HEALTH
from ctma.benchmark.plan import Budget, Plan, read_plan
from ctma.benchmark.record import failures, read_record, read_records, require_same_data
from ctma.benchmark.table import Row, Spread, make_rows
from ctma.data.images import read_label
from ctma.data.pairs import find_label_scale, read_sample
from ctma.data.readers import data_fingerprint, find_pairs
from ctma.errors import DataError
from ctma.figures.curves import save_precision_recall
from ctma.figures.sheets import save_sheet
from ctma.files import whole_file, write_json
from ctma.types import Say, counted, ignore

TABLES = ("table.md", "table.json", "table.html")
CURVES, SHEET = "curves.png", "masks.jpg"


def write_report(
    folder: str | Path, *, others: Sequence[str | Path] = (), on_warning: Say = ignore
) -> list[Path]:
    """Writes ``table.md``, ``table.json`` and ``table.html`` of a benchmark.

    Args:
        folder: The benchmark's folder.
        others: Scores of masks that others made, see ``evaluate_masks``, for the same table.
        on_warning: Told what could not be drawn.

    Returns:
        What was written.

    Raises:
        DataError: If there are no records, or some cannot stand in one table.
    """
    folder = Path(folder)
    records = read_records(folder)
    for path in map(Path, others):
        record = read_record(path)
        require_same_data(record, records[0], path)
        records.append(record)
    plan = read_plan(folder)
    costs = _read(folder / COSTS)
    rows = make_rows(records, costs, _published_data(plan, records[0]))
    notes = [*_how(plan, records, _read(folder / HEALTH)), *_differences(plan, rows, records[0])]
    notes += [f"{one['network']}-{one['seed']} failed: {one['reason']}" for one in failures(folder)]
    markdown, data, page = (folder / name for name in TABLES)
    pictures = [save_precision_recall(folder / CURVES, {row.network: row.curve for row in rows})]
    pictures += _draw_masks(folder, plan, records[0], rows, on_warning)
    tables = [pixel_table(rows), object_table(rows)]
    with whole_file(markdown) as part:
        part.write_text("\n\n".join([*map(_as_markdown, tables), _as_list(notes)]) + "\n")
    write_json(data, {"rows": [asdict(row) for row in rows], "notes": notes, "records": records})
    with whole_file(page) as part:
        part.write_text(_as_page(tables, notes, pictures))
    return [markdown, data, page, *pictures]


def pixel_table(rows: Sequence[Row]) -> list[list[str]]:
    """Scores of pixels in percent and costs; the first line says what the columns are."""
    head = ["network", "seeds", "precision", "recall", "F1", "IoU", "parameters", "GMAC",
            "pairs/s", "behind the best", "published F1", "here less published"]  # fmt: skip
    return [head, *map(_pixel_line, rows)]


def object_table(rows: Sequence[Row]) -> list[list[str]]:
    """Scores of whole objects, such as buildings; the first line says what the columns are."""
    head = ["network", "objects found", "missed", "false", "F1 of objects"]
    return [
        head,
        *(
            [
                row.network,
                *(_count(row.object_scores[name]) for name in ("found", "missed", "false")),
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
    shown = (_percent(row.scores[name]) for name in ("precision", "recall", "f1", "iou"))
    return [row.network, str(row.seeds), *shown, *costs, behind, *figures]


def _how(
    plan: Plan | None, records: Sequence[Mapping[str, Any]], health: Mapping[str, Any]
) -> list[str]:
    """What must be known to read the table."""
    first = records[0]
    trained = [record for record in records if "seed" in record]
    lines = [
        f"{first['data_name']}, {first['split']} split, {counted(first['pairs'], 'pair')}, data "
        f"{first['data']}; protocol {first['protocol']}, threshold {first['threshold']}, "
        f"{first['arithmetic']}, engine {first['engine']}",
        "each checkpoint was picked on val by F1; the test split was looked at once a training",
        f"code {first.get('code')}, ctma {first['ctma_version']}; {_machines(trained)}",
        "behind the best: F1 of the best less this one's, and the range that 95 % of resamplings "
        "of scenes and seeds fall in; ≈ where it holds 0, so that the difference may be chance",
        "an object is found where label and mask share at least half of what either covers",
    ]
    if plan is not None:
        settings = f", {', '.join(plan.settings)}" if plan.settings else ""
        lines.append(
            f"recipe {plan.recipe}{f' {plan.budget}' if plan.budget else ''}{settings}; "
            f"{'ImageNet weights where a network can begin with them' * plan.pretrained}"
            f"{'all from random weights' * (not plan.pretrained)}"
        )
    if health.get("leaks"):
        lines.append(
            f"the training split shows {counted(len(health['leaks']), 'scene')} of the test split "
            f"(such as {health['leaks'][0]}); allowed by name"
        )
    seeds = {record["network"]: 0 for record in trained}
    for record in trained:
        seeds[record["network"]] += 1
    if len({*seeds.values()}) > 1 or 1 in seeds.values():
        lines.append("a network with one seed has no spread over seeds; its range is too narrow")
    return lines


def _machines(records: Sequence[Mapping[str, Any]]) -> str:
    found = dict.fromkeys(
        f"{record['machine']['device']}, {counted(record['machine']['threads'], 'thread')}, torch "
        f"{record['machine']['torch']}"
        for record in records
    )
    return "; ".join(found)


def _differences(plan: Plan | None, rows: Sequence[Row], record: Mapping[str, Any]) -> list[str]:
    """Why figures here and published ones may differ."""
    data = _published_data(plan, record)
    if data is None or not any(row.published for row in rows):
        return []
    pairs = record["training_data"]["pairs"]
    reasons = [
        f"published ones are of {published.PAIRS[data]:,} training pairs, these of {pairs:,}"
    ]
    if plan is not None and plan.budget is not None:
        whole = published.PAIRS[data] * published.DRAWS[data] * 256**2
        share = Budget.parse(plan.budget).pixels / whole
        reasons.append(
            f"a training here sees {100 * share:.2g} % of the pixels of CTMA's released recipe, at "
            "a learning rate that is the same for all networks and was not tuned for any"
        )
    reasons.append("the test split here is the part of theirs that is at hand")
    return ["why they may differ: " + "; ".join(reasons)]


def _published_data(plan: Plan | None, record: Mapping[str, Any]) -> str | None:
    """The published data set that these pairs are of, as far as their folders tell."""
    name = record["data_name"].lower().replace("_", "-")
    known = [data for data in published.PAIRS if name.startswith(data)]
    return known[0] if known else None


def _draw_masks(
    folder: Path,
    plan: Plan | None,
    record: Mapping[str, Any],
    rows: Sequence[Row],
    on_warning: Say,
) -> list[Path]:
    """A sheet of the pairs with the most change and of everybody's masks, where data is there."""
    try:
        pairs = [] if plan is None else find_pairs(plan.data, record["split"], subset=plan.subset)
    except DataError as error:
        on_warning(f"no pictures of masks: {error}")
        return []
    if data_fingerprint(pairs) != record["data"]:
        on_warning("no pictures of masks: the data are not as they were")
        return []
    scale = find_label_scale(pairs)
    shown = most_changed(pairs)
    lines: list[dict[str, Any]] = []
    for pair in shown:
        before, after, change = read_sample(pair, scale)
        line: dict[str, Any] = {"before": before, "after": after, "label": change}
        for row in rows:
            mask = folder / MASKS / row.network / f"{pair.name}.png"
            if mask.is_file():
                line[row.network] = read_label(mask) // 255
        lines.append(line)
    save_sheet(folder / SHEET, lines, "Masks of the first seed", [pair.name for pair in shown])
    return [folder / SHEET]


def _as_markdown(table: Sequence[Sequence[str]]) -> str:
    head, *lines = (f"| {' | '.join(line)} |" for line in table)
    return "\n".join([head, "|" + "---|" * len(table[0]), *lines])


def _as_list(notes: Sequence[str]) -> str:
    return "\n".join(f"- {note}" for note in notes)


def _as_page(
    tables: Sequence[Sequence[Sequence[str]]], notes: Sequence[str], pictures: Sequence[Path]
) -> str:
    """One file that needs nothing else."""
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


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_bytes()) if path.is_file() else {}

"""Reads the table that a training writes."""

from __future__ import annotations

import csv
from pathlib import Path

FOLDER = "logs"
TABLE = "metrics.csv"


def read_table(run: Path) -> list[dict[str, float]]:
    """Reads the lines of a run's table; epochs count from 1."""
    path = run / FOLDER / TABLE
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [
            {name: _number(value) for name, value in row.items() if value}
            for row in csv.DictReader(file)
            if _is_whole(row)
        ]


def _is_whole(row: dict[str, str]) -> bool:
    """Whether a line is no part of a line, as a full disk leaves."""
    if None in row or None in row.values():
        return False
    try:
        [_number(value) for value in row.values() if value]
    except ValueError:
        return False
    return True


def _number(text: str) -> float:
    return int(text) if text.isdigit() else float(text)

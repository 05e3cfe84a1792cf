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
        ]


def _number(text: str) -> float:
    return int(text) if text.isdigit() else float(text)

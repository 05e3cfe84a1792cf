"""What a run of a benchmark leaves behind: one record, without which it is in no table."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ctma.errors import DataError
from ctma.evaluation.masks import PROTOCOL as MASKS
from ctma.files import file_fingerprint, fingerprint

RECORDS, FAILURES = "records", "failures"

SCORED = (
    "network", "data_name", "data", "split", "protocol", "precision", "recall", "f1", "iou",
    "objects", "per_pair", "ctma_version", "date",
)  # fmt: skip
TRAINED = (
    "seed", "recipe", "training_data", "validation_data", "picked_on", "epoch", "code", "seconds",
    "machine", "checkpoint", "curve",
)  # fmt: skip
"""What must be known of a score, and of the training behind it."""

ALIKE = ("data", "split", "protocol", "threshold", "tta", "enlargement", "budget", "code")
"""What records of one table have in common."""


def code_fingerprint() -> str:
    """A hash of the package's modules: what a version number alone does not tell."""
    root = Path(__file__).parents[1]
    files = sorted(root.rglob("*.py"))
    return fingerprint(f"{path.relative_to(root)} {file_fingerprint(path)}" for path in files)


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What computed: processor, its threads, the device, versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The records of a benchmark's folder, each whole, all comparable.

    Raises:
        DataError: If there is none, or one cannot stand in a table.
    """
    records = [read_record(path) for path in sorted((folder / RECORDS).glob("*.json"))]
    if not records:
        raise DataError(f"{folder}: no record of a benchmark here; ctma benchmark -o makes some")
    for record in records:
        _require_alike(record, records[0])
    return records


def read_record(path: Path) -> dict[str, Any]:
    """One record, if it can stand in a table.

    Raises:
        DataError: If it is none, something is not known, or its checkpoint was picked on test.
    """
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a record ({error})") from error
    if not isinstance(record, dict):
        raise DataError(f"{path}: is no record")
    wanted = SCORED if record.get("protocol") == MASKS else (*SCORED, *TRAINED)
    if lacking := [name for name in wanted if record.get(name) is None]:
        raise DataError(f"{path}: does not say {', '.join(lacking)}, so it enters no table")
    if record.get("picked_on") == "test" or record.get("picked_on") == record["split"]:
        raise DataError(f"{path}: its checkpoint was picked on what it is scored on; refused")
    return record


def failures(folder: Path) -> Iterator[dict[str, Any]]:
    """What failed in a benchmark, each with its reason."""
    for path in sorted((folder / FAILURES).glob("*.json")):
        yield json.loads(path.read_bytes())


def require_same_data(record: dict[str, Any], other: dict[str, Any], path: Path) -> None:
    """Refuses scores that were taken on other pairs.

    Raises:
        DataError: If data or split differ.
    """
    for name in ("data", "split"):
        if record[name] != other[name]:
            raise DataError(f"{path}: was scored on {name} {record[name]}, not {other[name]}")


def _require_alike(record: dict[str, Any], other: dict[str, Any]) -> None:
    for name in ALIKE:
        if record.get(name) != other.get(name):
            who = [f"{one['network']}-{one['seed']}" for one in (record, other)]
            raise DataError(
                f"{who[0]} has {name} {record.get(name)}, {who[1]} {other.get(name)}: they do not "
                "compare; run one of them again in a folder of its own"
            )


def _processor() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(": ")[2]
    return platform.processor() or platform.machine()

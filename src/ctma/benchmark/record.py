"""The record of a training in a benchmark; a table needs this record."""

from __future__ import annotations

import inspect
import json
import platform
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, Self, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ctma.devices import find_processor
from ctma.errors import DataError
from ctma.evaluation.masks import PROTOCOL as FOREIGN
from ctma.evaluation.metrics import Scores
from ctma.evaluation.records import HowScored
from ctma.files import file_fingerprint, fingerprint
from ctma.settings import Form

RECORDS, FAILURES = "records", "failures"

PICKED_ON = "val"
"""The split that chooses the checkpoint of a training."""

COUNTS = ("true_positive", "false_positive", "false_negative")
ROUNDING = 1e-6
"""Largest allowed difference between a score and the score computed from its counts."""

ALIKE = (
    "data", "split", "protocol", "threshold", "views", "enlargement", "arithmetic", "budget",
    "code", "training_data", "validation_data",
)  # fmt: skip
"""The fields that must be equal in all records of one table."""


Record = TypeVar("Record", bound=BaseModel)


class _Form(Form):
    model_config = ConfigDict(extra="allow")


_Ratio = Annotated[float, Field(ge=0, le=1)]
_Count = Annotated[int, Field(ge=0)]


class _Objects(_Form):
    found: _Count
    missed: _Count
    false: _Count
    f1: _Ratio


class _Pair(_Objects):
    f1: _Ratio = 0.0
    name: str
    true_positive: _Count
    false_positive: _Count
    false_negative: _Count


class ScoreOfMasks(HowScored):
    """A score that may stand in a table; of masks that others made, if of no training.

    Attributes:
        precision: In [0, 1], as the other ratios.
        recall: Share of the change that was found.
        f1: Harmonic mean of precision and recall.
        iou: Intersection over union.
        objects: Counts and F1 of objects.
        per_pair: The counts of each pair.
        ctma_version: The version that took the score.
        date: The day, in UTC.
        seed: Of the training; ``None`` of masks that others made.
        curve: Recall and precision at thresholds from low to high.
    """

    model_config = ConfigDict(extra="allow")

    data: str = Field(min_length=1)
    precision: _Ratio
    recall: _Ratio
    f1: _Ratio
    iou: _Ratio
    objects: _Objects
    per_pair: list[_Pair] = Field(min_length=1)
    ctma_version: str
    date: str
    seed: int | None = None
    curve: list[tuple[float, float]] = Field(default_factory=list)

    def field(self, name: str) -> Any:
        """A field by name, ``None`` where the record does not have it."""
        return getattr(self, name, None)

    @model_validator(mode="after")
    def _add_up(self) -> Self:
        """Checks that the counts of the pairs add up to the score."""
        counts = {key: sum(getattr(pair, key) for pair in self.per_pair) for key in COUNTS}
        summed = Scores(**counts, true_negative=0)
        for name in ("precision", "recall", "f1", "iou"):
            said = getattr(self, name)
            if abs(said - getattr(summed, name)) > ROUNDING or len(self.per_pair) != self.pairs:
                raise ValueError(f"per_pair does not add up to {name} {said} of {self.pairs} pairs")
        return self


class _Machine(_Form):
    device: str
    threads: int
    torch: str


class _Data(_Form):
    fingerprint: str = Field(min_length=1)
    pairs: int


class _Recipe(_Form):
    name: str
    data: dict[str, Any]


class ScoreOfTraining(ScoreOfMasks):
    """The score of a training, with the training behind it.

    Attributes:
        seed: Of the training.
        recipe: The recipe's name and data.
        training_data: The pairs that were trained on.
        validation_data: Fingerprint of the pairs that the checkpoint was picked on.
        picked_on: The split of these pairs.
        epoch: The epoch of the checkpoint.
        code: Fingerprint of the package's code.
        seconds: Duration of the training.
        machine: What computed.
        checkpoint: Fingerprint of the checkpoint.
        curve: Recall and precision at thresholds from low to high.
    """

    seed: int
    recipe: _Recipe
    training_data: _Data
    validation_data: str = Field(min_length=1)
    picked_on: str
    epoch: int
    code: str = Field(min_length=1)
    seconds: float
    machine: _Machine
    checkpoint: str
    curve: list[tuple[float, float]]


class Failure(_Form):
    """A training that failed."""

    network: str
    seed: int
    reason: str


def code_fingerprint() -> str:
    """A hash of the package's modules, which is more exact than the version number."""
    root = Path(__file__).parents[1]
    files = sorted(root.rglob("*.py"))
    return fingerprint(f"{path.relative_to(root)} {file_fingerprint(path)}" for path in files)


def outside_code(kind: type) -> str:
    """A hash of the file of a network from outside the package; empty for ctma's networks."""
    if kind.__module__.startswith("ctma."):
        return ""
    try:
        file = inspect.getsourcefile(kind)
        return "" if file is None else file_fingerprint(file)
    except OSError:  # written in a notebook
        return ""


def describe_machine(device: torch.device) -> dict[str, Any]:
    """The machine of a run: GPU or processor, threads, system, versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else find_processor()
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def read_records(folder: Path) -> list[ScoreOfTraining]:
    """Reads the records of a benchmark's folder; all are complete and comparable.

    Raises:
        DataError: If there is no record, or a record is not valid for a table.
    """
    paths = _whole_files(folder / RECORDS)
    records = [_read_training(path) for path in paths]
    if not records:
        raise DataError(f"{folder}: no record of a benchmark here; ctma benchmark -o makes some")
    for path, record in zip(paths, records, strict=True):
        if path.stem != (name := f"{record.network}-{record.seed}"):
            raise DataError(f"{path}: is the record of {name}, and is not called so")
        _require_alike(path, record, paths[0], records[0])
    _require_one_code(zip(paths, records, strict=True))
    return records


def _read_training(path: Path) -> ScoreOfTraining:
    """The record of a training, if its checkpoint was not chosen on the test split."""
    record = _read(ScoreOfTraining, path)
    if record.picked_on == record.split or record.validation_data == record.data:
        raise DataError(f"{path}: its checkpoint was picked on what it is scored on; refused")
    if record.picked_on != PICKED_ON:
        split = record.picked_on
        raise DataError(f"{path}: its checkpoint was picked on {split}, not {PICKED_ON}; refused")
    return record


def add_others(records: Sequence[ScoreOfMasks], others: Iterable[Path]) -> list[ScoreOfMasks]:
    """Adds the records of masks that others made.

    Raises:
        DataError: If a file is no record, has other pairs, or has the name of another record.
    """
    networks = {record.network for record in records}
    added = []
    for path in others:
        record = _read(ScoreOfMasks, path)
        if record.protocol != FOREIGN:
            raise DataError(f"{path}: is no score of masks; ctma eval --masks makes one")
        for name in ("data", "split"):
            was, reference = record.field(name), records[0].field(name)
            if was != reference:
                raise DataError(f"{path}: was scored on {name} {was}, not {reference}")
        _require_same_pairs(path, record, records[0])
        if record.network in networks:
            raise DataError(
                f"{path}: {record.network} is in the table already; give the folder of masks "
                "another name and score it again"
            )
        networks.add(record.network)
        added.append(record)
    return [*records, *added]


def failures(folder: Path) -> Iterator[Failure]:
    """The failed trainings of a benchmark that have no record, each with its reason."""
    for path in _whole_files(folder / FAILURES):
        if not (folder / RECORDS / path.name).exists():
            yield _require(Failure, read_kept(path), path)


def recorded_networks(folder: Path) -> dict[str, list[Path]]:
    """The networks that have records, with the files of the records."""
    networks: dict[str, list[Path]] = {}
    for path in _whole_files(folder / RECORDS):
        networks.setdefault(path.stem.rpartition("-")[0], []).append(path)
    return networks


def read_kept(path: Path) -> dict[str, Any]:
    """Reads a JSON file of a benchmark; empty if the file does not exist yet.

    Raises:
        DataError: If the file is damaged.
    """
    try:
        content = json.loads(path.read_bytes()) if path.is_file() else {}
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise DataError(f"{path}: is damaged; remove it, ctma benchmark --resume makes it anew")
    return content


def _whole_files(folder: Path) -> list[Path]:
    """The complete files; the name of an incomplete file begins with a dot."""
    return sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))


def _read(form: type[Record], path: Path) -> Record:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a record ({error})") from error
    return _require(form, content, path)


def _require(form: type[Record], content: Any, path: Path) -> Record:
    """The content as its form; refused if fields are missing or wrong."""
    try:
        return form.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        name, reason = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        said = f"does not say {name} ({reason.lower()})" if name else reason
        raise DataError(f"{path}: {said}; refused") from error


def _require_alike(
    path: Path, record: ScoreOfTraining, other_path: Path, other: ScoreOfTraining
) -> None:
    for name in ALIKE:
        if record.field(name) != other.field(name):
            _refuse(path, name, record.field(name), other_path, other.field(name))
    drawn, others = (dict(one.recipe.data, workers=0) for one in (record, other))
    if record.field("budget") and drawn != others:
        _refuse(path, "recipe.data", drawn, other_path, others)
    _require_same_pairs(path, record, other)


def _require_same_pairs(path: Path, record: ScoreOfMasks, other: ScoreOfMasks) -> None:
    names, others = ({pair.name for pair in one.per_pair} for one in (record, other))
    if names != others:
        odd = min(names ^ others)
        raise DataError(f"{path}: is not of the same pairs as other records ({odd}); refused")


def _require_one_code(records: Iterable[tuple[Path, ScoreOfTraining]]) -> None:
    """Refuses records of one network, from outside the package, in two versions of its code."""
    first: dict[str, tuple[Path, Any]] = {}
    for path, record in records:
        code = record.field("network_code")
        other_path, other = first.setdefault(record.network, (path, code))
        if code != other:
            _refuse(path, "code of its network", code, other_path, other)


def _refuse(path: Path, name: str, value: Any, other_path: Path, other: Any) -> NoReturn:
    raise DataError(
        f"{path}: has {name} {value}, {other_path.name} {other}: they do not compare; run one of "
        "them again in a folder of its own"
    )

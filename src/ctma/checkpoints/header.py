"""What a checkpoint says about itself, read without its weights."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field
from safetensors import SafetensorError, safe_open

from ctma.errors import CheckpointError, SettingError, first_line
from ctma.models.usage import Usage

FORMAT_VERSION = 2
KEY = "ctma"
"""Where the header stands among a safetensors file's metadata."""

RELEASED_SUFFIXES = {".pth", ".pt"}
"""Torch files, as the released implementations write them."""

EXPORTED_SUFFIXES = {".onnx", ".xml"}
"""Models that ``ctma export`` writes for other programs, and that ctma runs too."""

RUN_BEST = "best.safetensors"
"""The checkpoint of a run's folder that stands for it."""

_SHIPPED = Path(__file__).parents[1] / "weights"

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""What batch norms keep beside their parameters."""


class Header(Usage):
    """What a checkpoint says about itself: how its network is used, and where it comes from.

    Fields that a newer version of ctma added are kept as they are.

    Attributes:
        network: Name for ``create_model``.
        arguments: Its arguments.
        calibration: How temperature, offset and threshold were found, where they were.
        agreement: For faster engines and precisions, the share of validation pixels whose mask is
            that of float32, where it was measured.
        training_data: Name, fingerprint and size of the data it was trained on.
        initial_weights: Name and fingerprint of the checkpoint where training began, if any.
        recipe: The full recipe it was trained with.
        epoch: Finished epochs, counted from 1.
        scores: Scores taken, each with its split, protocol, threshold and data fingerprint.
        ctma_version: The version of ctma that wrote it.
        format_version: The version of this header's form.
    """

    model_config = ConfigDict(extra="allow")

    network: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    calibration: dict[str, Any] = Field(default_factory=dict)
    agreement: dict[str, float] = Field(default_factory=dict)
    training_data: dict[str, Any] = Field(default_factory=dict)
    initial_weights: dict[str, str] = Field(default_factory=dict)
    recipe: dict[str, Any] = Field(default_factory=dict)
    epoch: int | None = None
    scores: list[dict[str, Any]] = Field(default_factory=list)
    ctma_version: str = ""
    format_version: int = FORMAT_VERSION


def shipped_models() -> list[str]:
    """Names of the checkpoints that come with the package; they stand for their files."""
    return sorted(path.stem for path in _SHIPPED.glob("*.safetensors"))


def is_shipped(path: Path) -> bool:
    """Whether a file comes with the package."""
    return path.parent == _SHIPPED


def find_checkpoint(checkpoint: str | Path) -> Path:
    """The file of a checkpoint: given by its path, by the folder of its run, or by its name.

    Raises:
        CheckpointError: If it is the state of a training, or a program of torch's, which hold
            no header.
    """
    path = Path(checkpoint)
    if str(checkpoint) in shipped_models():
        return _SHIPPED / f"{checkpoint}.safetensors"
    if path.suffix == ".ckpt":
        weights = path.with_suffix(".safetensors").name
        raise CheckpointError(f"{path}: is what a training resumes from; take {weights} beside it")
    if path.suffix == ".pt2":
        raise CheckpointError(
            f"{path}: is a program for torch.export.load; take the checkpoint that it came from"
        )
    return path / RUN_BEST if (path / RUN_BEST).is_file() else path


def refuse_exported(path: Path) -> None:
    """Refuses an exported model where a checkpoint with weights is wanted.

    Raises:
        CheckpointError: If the suffix is that of an exported model.
    """
    if path.suffix in EXPORTED_SUFFIXES:
        raise CheckpointError(
            f"{path}: is exported, for predict, eval, bench and info; take the checkpoint that it "
            "came from"
        )


def read_header(path: str | Path) -> Header:
    """Reads what a checkpoint says about itself, without its weights.

    Args:
        path: A checkpoint of ours, or the name of a shipped one.

    Raises:
        CheckpointError: If the file is missing, damaged or no checkpoint of ours.
    """
    path = find_checkpoint(path)
    refuse_exported(path)
    metadata, _ = _read_safetensors(path)
    if KEY not in metadata:
        raise CheckpointError(f"{path}: no ctma header, so its network is not known")
    try:
        return Header(**_check_format(json.loads(metadata[KEY]), path))
    except SettingError as error:
        raise CheckpointError(f"{path}: damaged ctma header ({error})") from error
    except (json.JSONDecodeError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged ctma header ({first_line(error)})") from error


def count_parameters(path: str | Path) -> int:
    """How many parameters a checkpoint of ours holds, its batch statistics left out.

    Raises:
        CheckpointError: If the file is missing or damaged.
    """
    _, shapes = _read_safetensors(find_checkpoint(path))
    return sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(_STATISTICS))


def is_half(path: Path) -> bool:
    """Whether a checkpoint of ours keeps kernels in float16."""
    if path.suffix in RELEASED_SUFFIXES:
        return False
    with safe_open(path, framework="np") as file:
        return any(file.get_slice(name).get_dtype() == "F16" for name in file.keys())  # noqa: SIM118


def _read_safetensors(path: Path) -> tuple[Mapping[str, str], dict[str, list[int]]]:
    """Metadata, and the shape of each tensor by its name."""
    if path.is_dir():
        raise CheckpointError(f"{path}: no run's folder, it has no {RUN_BEST}")
    if not path.is_file():
        shipped = ", ".join(shipped_models())
        raise CheckpointError(f"{path}: no such checkpoint; shipped by name: {shipped}")
    try:
        with safe_open(path, framework="np") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
            return file.metadata() or {}, shapes
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error})") from error


def _check_format(content: Any, path: Path) -> dict[str, Any]:
    """A header's content, if its form is today's."""
    version = content.get("format_version")
    if not isinstance(version, int):
        raise CheckpointError(f"{path}: damaged ctma header (format_version {version!r})")
    if version != FORMAT_VERSION:
        advice = "upgrade ctma" if version > FORMAT_VERSION else "ctma wrote it before its release"
        raise CheckpointError(f"{path}: header of format {version}, not {FORMAT_VERSION}; {advice}")
    known: dict[str, Any] = content
    return known

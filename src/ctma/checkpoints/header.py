"""The header of a checkpoint, read without the weights."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field
from safetensors import SafetensorError, safe_open

from ctma.errors import CheckpointError, SettingError, first_line
from ctma.files import file_fingerprint
from ctma.models.usage import Usage

FORMAT_VERSION = 2
KEY = "ctma"
"""Key of the header in the metadata of a safetensors file."""

RELEASED_SUFFIXES = {".pth", ".pt"}
"""Suffixes of the torch files that the released implementations write."""

EXPORTED_SUFFIXES = {".onnx", ".xml"}
"""Suffixes of the models that ``ctma export`` writes for other programs and that ctma can run."""

RUN_BEST = "best.safetensors"
"""Name of the best checkpoint in a run's folder; ctma loads this file for the folder."""

_SHIPPED = Path(__file__).parents[1] / "weights"

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Batch statistics that batch norm layers store besides their parameters."""


class Header(Usage):
    """The header of a checkpoint: how to use the network, and where the weights come from.

    The header keeps unknown fields, such as those of a newer version of ctma, unchanged.

    Attributes:
        network: Name of the network for ``create_model``.
        arguments: Arguments of the network for ``create_model``.
        calibration: How ctma found temperature, offset and threshold, if the network is calibrated.
        promise: How much of the change the threshold misses at most, on which scenes.
        agreement: For each measured engine or precision, the share of validation pixels whose mask
            equals the float32 mask.
        training_data: Name, fingerprint and size of the training data.
        initial_weights: Name and fingerprint of the checkpoint that training started from, if any.
        teachers: The fingerprint of each network that taught this one, by name or path.
        adapts: Only of an adapter, which holds differences to the weights of another checkpoint:
            the name or path of that checkpoint, the way there from the adapter's folder, and the
            fingerprint of its file.
        adaptation: What an adapter learned, and what it cost elsewhere.
        recipe: The full training recipe.
        epoch: Number of finished epochs, counted from 1.
        scores: Measured scores, each with its split, protocol, threshold and data fingerprint.
        checksum: The SHA-256 of the weights; empty in files of former versions.
        ctma_version: The version of ctma that wrote the header.
        format_version: The version of the header format.
    """

    model_config = ConfigDict(extra="allow")

    network: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    calibration: dict[str, Any] = Field(default_factory=dict)
    promise: dict[str, Any] = Field(default_factory=dict)
    agreement: dict[str, float] = Field(default_factory=dict)
    training_data: dict[str, Any] = Field(default_factory=dict)
    initial_weights: dict[str, str] = Field(default_factory=dict)
    teachers: dict[str, str] = Field(default_factory=dict)
    adapts: dict[str, str] = Field(default_factory=dict)
    adaptation: dict[str, Any] = Field(default_factory=dict)
    recipe: dict[str, Any] = Field(default_factory=dict)
    epoch: int | None = None
    scores: list[dict[str, Any]] = Field(default_factory=list)
    checksum: str = ""
    ctma_version: str = ""
    format_version: int = FORMAT_VERSION


def shipped_models() -> list[str]:
    """Names of the checkpoints that come with the package; a name works in place of a path."""
    return sorted(path.stem for path in _SHIPPED.glob("*.safetensors"))


def is_shipped(path: Path) -> bool:
    """Whether a file comes with the package."""
    return path.parent == _SHIPPED


def find_checkpoint(checkpoint: str | Path) -> Path:
    """Finds a checkpoint's file from its path, its run's folder or its shipped name.

    Raises:
        CheckpointError: If the file is a training state (``.ckpt``) or a torch program
            (``.pt2``); these files hold no header.
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
    """Refuses an exported model where ctma needs a checkpoint with weights.

    Raises:
        CheckpointError: If the path has the suffix of an exported model.
    """
    if path.suffix in EXPORTED_SUFFIXES:
        raise CheckpointError(
            f"{path}: is exported, for predict, eval, bench and info; take the checkpoint that it "
            "came from"
        )


def read_header(path: str | Path) -> Header:
    """Reads the header of a checkpoint, without the weights.

    Args:
        path: A ctma checkpoint, or the name of a shipped checkpoint.

    Raises:
        CheckpointError: If the file is missing, damaged or not a ctma checkpoint.
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


def find_adapted(header: Header, path: Path) -> Path:
    """Finds the checkpoint that an adapter belongs to.

    Args:
        header: The header of the adapter.
        path: The file of the adapter.

    Raises:
        CheckpointError: If the checkpoint is not there, or is not the one that was adapted.
    """
    name, way = header.adapts["name"], header.adapts.get("way")
    original = find_checkpoint(name)
    if not original.is_file() and way:
        original = path.parent / way
    if not original.is_file():
        raise CheckpointError(f"{path}: adapts {name}, which is not there any more")
    if file_fingerprint(original) != header.adapts["fingerprint"]:
        raise CheckpointError(f"{path}: adapts another {name} than the one that is there now")
    return original


def count_parameters(path: str | Path) -> int:
    """Counts the parameters of a ctma checkpoint, without batch statistics.

    An adapter counts as the checkpoint that it adds to.

    Raises:
        CheckpointError: If the file is missing or damaged.
    """
    path = find_checkpoint(path)
    if is_adapter(path):
        return count_parameters(find_adapted(read_header(path), path))
    _, shapes = _read_safetensors(path)
    return sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(_STATISTICS))


def is_adapter(path: Path) -> bool:
    """Whether a file holds differences to the weights of another checkpoint."""
    return path.suffix not in RELEASED_SUFFIXES and bool(read_header(path).adapts)


def is_half(path: Path) -> bool:
    """Whether a ctma checkpoint stores kernels in float16; not those of an adapter."""
    if path.suffix in RELEASED_SUFFIXES or is_adapter(path):
        return False
    with safe_open(path, framework="np") as file:
        return any(file.get_slice(name).get_dtype() == "F16" for name in file.keys())  # noqa: SIM118


def _read_safetensors(path: Path) -> tuple[Mapping[str, str], dict[str, list[int]]]:
    """Reads the metadata and the shape of each tensor, by tensor name."""
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
    """Returns a header's content, if the header has the current format version."""
    version = content.get("format_version")
    if not isinstance(version, int):
        raise CheckpointError(f"{path}: damaged ctma header (format_version {version!r})")
    if version != FORMAT_VERSION:
        advice = "upgrade ctma" if version > FORMAT_VERSION else "ctma wrote it before its release"
        raise CheckpointError(f"{path}: header of format {version}, not {FORMAT_VERSION}; {advice}")
    fields: dict[str, Any] = content
    return fields

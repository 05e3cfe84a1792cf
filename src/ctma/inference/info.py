"""Describes the content of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctma.checkpoints.header import (
    RELEASED_SUFFIXES,
    Header,
    count_parameters,
    find_checkpoint,
    read_header,
)
from ctma.errors import SettingError
from ctma.exports.exported import is_exported, read_description
from ctma.files import file_fingerprint
from ctma.models.registry import ENTRIES

if TYPE_CHECKING:
    from ctma.inference.predictor import Predictor


def info(checkpoint: str | Path | Predictor) -> dict[str, Any]:
    """The content of a checkpoint as plain values: header, number of parameters, bytes.

    For a checkpoint of ctma, ``info`` reads the header alone. For a released file, ``info`` reads
    the weights to identify the network.

    Args:
        checkpoint: A checkpoint by name or path, or a predictor that was loaded from one.

    Raises:
        CheckpointError: If the checkpoint cannot be read.
        SettingError: If the predictor's network was not loaded from a file.
    """
    source = getattr(checkpoint, "source", checkpoint)
    if not isinstance(source, str | Path):
        raise SettingError("`checkpoint`: expected a name, a path, or a predictor loaded from one")
    path = find_checkpoint(source)
    if is_exported(path):
        model = read_description(path)
        content = {"runtime": model.runtime, **model.description.model_dump(mode="json")}
        return {"file": str(path), "bytes": path.stat().st_size, **content}
    content = _describe_released(path) if path.suffix in RELEASED_SUFFIXES else _describe_ours(path)
    return {
        "file": str(path),
        "fingerprint": file_fingerprint(path),
        "bytes": path.stat().st_size,
        **content,
    }


def _describe_ours(path: Path) -> dict[str, Any]:
    header = read_header(path)
    content = {"parameters": count_parameters(path), **_paper(header.network)}
    return {**content, **header.model_dump(mode="json")}


def _describe_released(path: Path) -> dict[str, Any]:
    from ctma.checkpoints.released import load_released

    network = load_released(path, {})
    parameters = sum(weight.numel() for weight in network.parameters())
    header = Header(network=network.name, arguments=network.arguments)
    content = {"parameters": parameters, **_paper(network.name)}
    return {**content, **header.model_dump(mode="json")}


def _paper(network: str) -> dict[str, str]:
    return {"paper": ENTRIES[network].paper} if network in ENTRIES else {}

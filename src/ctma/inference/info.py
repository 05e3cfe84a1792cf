"""What is in a checkpoint, for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ctma.checkpoints.header import (
    RELEASED_SUFFIXES,
    Header,
    count_parameters,
    find_checkpoint,
    read_header,
)
from ctma.exports.exported import is_exported, read_description
from ctma.files import file_fingerprint
from ctma.models.registry import ENTRIES


def info(path: str | Path) -> dict[str, Any]:
    """What is in a checkpoint, as plain values: its header, parameters and bytes.

    A checkpoint of ours is described from its header alone; the weights of a released file
    must be read to know their network.

    Raises:
        CheckpointError: If it cannot be read.
    """
    path = find_checkpoint(path)
    if is_exported(path):
        model = read_description(path)
        known = {"runtime": model.runtime, **model.description.model_dump(mode="json")}
        return {"file": str(path), "bytes": path.stat().st_size, **known}
    known = _describe_released(path) if path.suffix in RELEASED_SUFFIXES else _describe_ours(path)
    return {
        "file": str(path),
        "fingerprint": file_fingerprint(path),
        "bytes": path.stat().st_size,
        **known,
    }


def _describe_ours(path: Path) -> dict[str, Any]:
    header = read_header(path)
    known = {"parameters": count_parameters(path), **_paper(header.network)}
    return {**known, **header.model_dump(mode="json")}


def _describe_released(path: Path) -> dict[str, Any]:
    from ctma.checkpoints.released import load_released

    network = load_released(path, {})
    parameters = sum(weight.numel() for weight in network.parameters())
    header = Header(network=network.name, arguments=network.arguments)
    known = {"parameters": parameters, **_paper(network.name)}
    return {**known, **header.model_dump(mode="json")}


def _paper(network: str) -> dict[str, str]:
    return {"paper": ENTRIES[network].paper} if network in ENTRIES else {}

"""The checksum of a checkpoint's weights, which tells a damaged file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from ctma.errors import CheckpointError

CHECKSUM = "sha256"
"""Key of the checksum in the metadata of a safetensors file."""


def checksum(weights: Mapping[str, Tensor]) -> str:
    """The SHA-256 of weights on the CPU, with their names, types and shapes, as 64 digits."""
    digest = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
        digest.update(weight.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_sum(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Refuses weights that are not those that were written; files without a checksum pass.

    Raises:
        CheckpointError: If the checksum in the file is another.
    """
    with safe_open(path, "pt") as file:
        stored = (file.metadata() or {}).get(CHECKSUM)
    if stored is not None and stored != checksum(weights):
        raise CheckpointError(f"{path}: is damaged, its weights do not fit its checksum")

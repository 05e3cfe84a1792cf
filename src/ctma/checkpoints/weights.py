"""Loads weights into a network, all of them or none."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ctma.errors import CheckpointError
from ctma.models.base import ChangeNetwork


def load_weights(network: ChangeNetwork, weights: Mapping[str, Tensor], source: Path) -> None:
    """Loads weights into a network if all weights fit; else changes nothing.

    Raises:
        CheckpointError: If a weight is missing, surplus or misshapen; the error names weights.
    """
    tensors = network.state_dict()
    problems = [f"{name} is missing" for name in tensors if name not in weights]
    problems += [f"{name} is surplus" for name in weights if name not in tensors]
    problems += [
        f"{name} is {tuple(weights[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in tensors.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if problems:
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(f"{source}: weights do not fit: {'; '.join(problems[:3])}{more}")
    network.load_state_dict(weights)


def checksum(weights: Mapping[str, Tensor]) -> str:
    """The SHA-256 of weights on the CPU, with their names, types and shapes, as 64 digits."""
    digest = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
        digest.update(weight.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()

"""Checkpoints that are not as they should be."""

from safetensors import safe_open
from safetensors.torch import load_file, save_file


def rewrite(path, target, change=None, metadata=None):
    """A copy of a checkpoint with changed weights or header."""
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    weights = load_file(path)
    if change:
        change(weights)
    save_file(weights, target, metadata=metadata if metadata is not None else header)
    return target

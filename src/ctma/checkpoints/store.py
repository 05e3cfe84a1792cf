"""Networks to safetensors files with a header, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ctma._version import __version__
from ctma.checkpoints.header import (
    KEY,
    RELEASED_SUFFIXES,
    Header,
    find_checkpoint,
    read_header,
)
from ctma.checkpoints.released import find_unsaid, load_released
from ctma.checkpoints.weights import load_weights
from ctma.engines.prepared import refuse_prepared
from ctma.errors import (
    CheckpointError,
    CtmaError,
    OutputError,
    SettingError,
    UnknownNameError,
    first_line,
    warn,
)
from ctma.files import whole_file
from ctma.models.base import ChangeNetwork, check_network
from ctma.models.layers import channels_last
from ctma.models.registry import create_model
from ctma.models.usage import Usage

_USAGE = tuple(Usage.model_fields)
_OWN = {"network", "arguments", "ctma_version", "format_version", *_USAGE}
_PROVENANCE = Header.model_fields.keys() - _OWN
"""What a header says beside the network and its usage."""


def save_model(
    path: str | Path, network: ChangeNetwork, *, half: bool = False, **provenance: Any
) -> None:
    """Writes a checkpoint, whole or not at all.

    Args:
        path: A ``.safetensors`` path.
        network: The network: its weights, its name and arguments as ``create_model`` knows
            them, its ``usage``, and where it comes from.
        half: Keep kernels in float16, for a file of half the size; they are loaded as
            float32. Vectors, batch statistics among them, stay as they are.
        **provenance: Fields of ``Header`` that take the place of the network's own
            ``provenance``, such as ``scores``. What its ``usage`` says is set there.

    Raises:
        CheckpointError: If the path has another suffix, a weight is too large for half
            precision, or the network was not made by ``create_model``.
        UnknownNameError: If there is no such field.
        SettingError: If a field's value cannot be.
        OutputError: If the file cannot be written.
    """
    check_network(network)
    if Path(path).suffix != ".safetensors":
        raise CheckpointError(f"{path}: a checkpoint of ours is a .safetensors (see ctma convert)")
    refuse_prepared(network)
    if not network.name:
        raise CheckpointError(
            f"{path}: this {type(network).__name__} cannot be loaded again; make it with "
            "create_model (see ctma.register)"
        )
    for name in provenance:
        if name in _USAGE:
            raise SettingError(f"`{name}`: is part of the network's `usage`; set it there")
        if name not in _PROVENANCE:
            raise UnknownNameError("field of a header", name, _PROVENANCE)
    header = Header(
        network=network.name,
        arguments=network.arguments,
        ctma_version=__version__,
        **{**network.provenance, **provenance, **dict(network.usage)},
    )
    weights = {
        name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()
    }
    if half:
        weights = {name: _halve(name, weight) for name, weight in weights.items()}
    with whole_file(path) as part:
        try:
            save_file(weights, part, metadata={KEY: header.model_dump_json()})
        except SafetensorError as error:
            raise OutputError(f"cannot write {path}: {first_line(error)}") from error


def load_model(path: str | Path, arguments: Mapping[str, Any] | None = None) -> ChangeNetwork:
    """Loads a network with its weights, in evaluation mode; to predict, see ``ctma.load``.

    Args:
        path: A checkpoint of ours, the name of a shipped one, the folder of a run, or a ``.pth``
            file of a released implementation.
        arguments: For a ``.pth`` file, what it does not say, such as ``{"fusion": 0.67}``.

    Returns:
        The network; its ``usage`` is what the checkpoint knows of how to use it, its
        ``provenance`` what else it says.

    Raises:
        CheckpointError: If the file is no checkpoint, would run code, or its weights do
            not fit the network it names.
    """
    path = find_checkpoint(path)
    if path.suffix in RELEASED_SUFFIXES:
        return channels_last(load_released(path, arguments or {})).eval()
    if arguments:
        raise CheckpointError(f"{path}: its header holds the network's arguments, give none")
    header = read_header(path)
    try:
        network = create_model(header.network, **header.arguments)
        network.usage = header.only()
    except (CtmaError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    load_weights(network, load_file(path), path)
    network.provenance = header.model_dump(exclude=_OWN)
    return channels_last(network).eval()


def load_telling(path: Path) -> ChangeNetwork:
    """As ``load_model``, with a warning for each argument that was taken by default."""
    network = load_model(path)
    for name, hint in find_unsaid(path, network, ()).items():
        warn(
            f"{path}: does not say `{name}`, and the default is taken ({hint}); ctma convert "
            "writes a checkpoint that says it"
        )
    return network


def _halve(name: str, weight: Tensor) -> Tensor:
    if weight.ndim < 2 or not weight.is_floating_point():
        return weight
    if weight.abs().max() > torch.finfo(torch.float16).max:
        raise CheckpointError(f"{name}: too large for half precision; keep float32")
    return weight.half()

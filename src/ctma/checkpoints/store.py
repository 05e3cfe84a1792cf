"""Networks to safetensors files with a header, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
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
from ctma.errors import (
    CheckpointError,
    CtmaError,
    OutputError,
    SettingError,
    UnknownNameError,
    first_line,
)
from ctma.files import whole_file
from ctma.inference.engines.engine import refuse_prepared
from ctma.inference.engines.exported import load_exported
from ctma.inference.exported import is_exported
from ctma.models.base import ChangeNetwork, Usage, check_network
from ctma.models.layers import channels_last
from ctma.models.registry import create_model
from ctma.types import Say

_USAGE = tuple(Usage.__dataclass_fields__)
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
        **provenance: Fields of :class:`Header` that take the place of the network's own
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
    usage = asdict(network.usage)
    known: dict[str, Any] = {
        **network.provenance, **provenance, **usage, "bands": list(network.usage.bands)
    }  # fmt: skip
    try:
        header = Header(
            network=network.name, arguments=network.arguments, ctma_version=__version__, **known
        )
    except ValidationError as error:
        (first, *_) = error.errors()
        raise SettingError(f"`{first['loc'][0]}` {first['input']!r}: {first['msg']}") from error
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


def load_model(path: str | Path, **arguments: Any) -> ChangeNetwork:
    """Loads a network with its weights, in evaluation mode.

    Args:
        path: A checkpoint of ours, the name of a shipped one, a ``.pth`` file of a released
            implementation, or an exported ``.onnx`` or ``.xml``.
        **arguments: For a ``.pth`` file, what it does not say, such as ``fusion=0.67``.

    Returns:
        The network; its ``usage`` is what the checkpoint knows of how to use it, its
        ``provenance`` what else it says.

    Raises:
        CheckpointError: If the file is no checkpoint, would run code, or its weights do
            not fit the network it names.
    """
    path = find_checkpoint(path)
    if is_exported(path) and not arguments:
        return load_exported(path)
    if path.suffix in RELEASED_SUFFIXES:
        return channels_last(load_released(path, **arguments)).eval()
    if arguments:
        raise CheckpointError(f"{path}: its header holds the network's arguments, give none")
    header = read_header(path)
    try:
        network = create_model(header.network, **header.arguments)
        known = header.model_dump(include={*_USAGE}) | {"bands": tuple(header.bands)}
        network.usage = Usage(**known)
    except (CtmaError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    load_weights(network, load_file(path), path)
    network.provenance = header.model_dump(exclude=_OWN)
    return channels_last(network).eval()


def load_telling(
    checkpoint: str | Path, arguments: Mapping[str, Any], on_warning: Say
) -> ChangeNetwork:
    """As :func:`load_model`, with a line for each argument that was taken by default."""
    path = find_checkpoint(checkpoint)
    network = load_model(path, **arguments)
    for name, hint in find_unsaid(path, network, arguments).items():
        on_warning(f"{path}: does not say `{name}`, and the default is taken; give it: {hint}")
    return network


def _halve(name: str, weight: Tensor) -> Tensor:
    if weight.ndim < 2 or not weight.is_floating_point():
        return weight
    if weight.abs().max() > torch.finfo(torch.float16).max:
        raise CheckpointError(f"{name}: too large for half precision; keep float32")
    return weight.half()

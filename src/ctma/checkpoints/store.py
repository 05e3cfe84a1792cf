"""Saves networks as safetensors files with a header, and loads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    find_adapted,
    find_checkpoint,
    is_shipped,
    read_header,
)
from ctma.checkpoints.released import find_unsaid, load_released
from ctma.checkpoints.weights import checksum, load_weights
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
from ctma.files import file_fingerprint, find_way, whole_file
from ctma.models.base import ChangeNetwork, check_network
from ctma.models.layers import channels_last
from ctma.models.registry import create_model
from ctma.models.usage import Usage

_USAGE = tuple(Usage.model_fields)
_OWN = {
    "network", "arguments", "ctma_version", "format_version", "checksum", "adapts", *_USAGE,
}  # fmt: skip
_PROVENANCE = Header.model_fields.keys() - _OWN
"""Names of the header fields besides the network and its usage."""


def save_model(
    path: str | Path, network: ChangeNetwork, *, half: bool = False, **provenance: Any
) -> None:
    """Writes a checkpoint, whole or not at all.

    Args:
        path: A ``.safetensors`` path.
        network: The network. The file holds its weights, its name and arguments for
            ``create_model``, its ``usage`` and its ``provenance``.
        half: Store kernels in float16, for a file of half the size; ``load_model`` converts
            kernels to float32. Vectors, such as batch statistics, are not converted.
        **provenance: Fields of ``Header``, such as ``scores``, that replace fields of the
            network's ``provenance``. Set usage fields in the network's ``usage`` instead.

    Raises:
        CheckpointError: If the path has another suffix, a weight is too large for half
            precision, or ``create_model`` did not make the network.
        UnknownNameError: If a name in ``provenance`` is not a field of the header.
        SettingError: If a field's value is invalid.
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
    weights = {
        name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()
    }
    if half:
        weights = {name: _halve(name, weight) for name, weight in weights.items()}
    _write(Path(path), network, weights, provenance)


def save_adapter(
    path: str | Path,
    network: ChangeNetwork,
    original: Path,
    names: Sequence[str],
    **provenance: Any,
) -> None:
    """Writes what a network learned beyond another checkpoint, in half precision.

    ``load_model`` adds the differences to the weights of the other checkpoint, which must still be
    there.

    Args:
        path: A ``.safetensors`` path.
        network: The network with its new weights.
        original: The checkpoint with the other weights.
        names: Names of the weights that differ.
        **provenance: Fields of ``Header``, as of ``save_model``.

    Raises:
        OutputError: If the file cannot be written.
    """
    known, state = load_model(original).state_dict(), network.state_dict()
    differences = {
        name: (state[name].detach().cpu() - known[name]).half().contiguous() for name in names
    }
    shipped = is_shipped(original)
    adapts = {
        "name": original.stem if shipped else str(original.resolve()),
        "way": "" if shipped else find_way(original, Path(path).parent) or "",
        "fingerprint": file_fingerprint(original),
    }
    _write(Path(path), network, differences, provenance | {"adapts": adapts})


def add_differences(differences: Mapping[str, Tensor], original: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint plus the differences that an adapter holds."""
    weights = dict(load_model(original).state_dict())
    for name, difference in differences.items():
        if name not in weights or weights[name].shape != difference.shape:
            raise CheckpointError(f"{original}: has no weight for the adapter's {name}")
        weights[name] = weights[name] + difference.float()
    return weights


def _write(
    path: Path, network: ChangeNetwork, weights: dict[str, Tensor], provenance: dict[str, Any]
) -> None:
    """Writes weights with the header of a network, whole or not at all."""
    header = Header(
        network=network.name,
        arguments=network.arguments,
        ctma_version=__version__,
        checksum=checksum(weights),
        **{**network.provenance, **provenance, **dict(network.usage)},
    )
    with whole_file(path) as part:
        try:
            save_file(weights, part, metadata={KEY: header.model_dump_json()})
        except SafetensorError as error:
            raise OutputError(f"cannot write {path}: {first_line(error)}") from error


def load_model(path: str | Path, arguments: Mapping[str, Any] | None = None) -> ChangeNetwork:
    """Loads a network with its weights, in evaluation mode; for prediction use ``ctma.load``.

    Args:
        path: A ctma checkpoint, the name of a shipped checkpoint, the folder of a run, or a
            ``.pth`` file of a released implementation.
        arguments: Network arguments that a ``.pth`` file does not hold, such as
            ``{"fusion": 0.67}``.

    Returns:
        The network. Its ``usage`` holds the usage fields of the checkpoint's header, its
        ``provenance`` the other fields.

    Raises:
        CheckpointError: If the file is not a checkpoint, loading it would run code, or the
            weights do not fit the network that the header names.
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
    weights = load_file(path)
    whole = weights if not header.adapts else add_differences(weights, find_adapted(header, path))
    load_weights(network, whole, path)
    if header.checksum and header.checksum != checksum(weights):
        raise CheckpointError(f"{path}: is damaged, its weights do not fit its checksum")
    network.provenance = header.model_dump(exclude=_OWN)
    return channels_last(network).eval()


def load_telling(path: Path) -> ChangeNetwork:
    """Does the same as ``load_model``, and warns of each missing argument set by default."""
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

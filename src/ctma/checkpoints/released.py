"""Reads torch files of the released implementations without running code, and writes them."""

from __future__ import annotations

import zipfile
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctma.checkpoints.header import RELEASED_SUFFIXES
from ctma.checkpoints.weights import load_weights
from ctma.errors import CheckpointError, OutputError, first_line
from ctma.files import whole_file
from ctma.models.base import ChangeNetwork, Released
from ctma.models.registry import (
    ENTRIES,
    create_model,
    model_arguments,
    released_arguments,
    released_network,
)


def load_released(path: Path, arguments: Mapping[str, Any]) -> ChangeNetwork:
    """Loads a network with the weights of a released file.

    Args:
        path: A ``.pth`` path.
        arguments: Network arguments that the file does not hold, such as ``fusion=0.67``.

    Raises:
        CheckpointError: If the file cannot be read, or its weights fit no network of ctma.
    """
    state = {
        name.removeprefix("module."): weight
        for name, weight in read_released(path)["state_dict"].items()
    }
    network_name = released_network(state)
    if network_name is None:
        supported_names = ", ".join(
            name for name, entry in ENTRIES.items() if entry.released_weight
        )
        raise CheckpointError(
            f"{path}: weights of no network that is known here ({supported_names}); "
            f"the first one is {next(iter(state))}"
        )
    network = create_model(network_name, **{**released_arguments(network_name), **arguments})
    released = _released(network, path)
    ours = {released.rename(name): name for name in network.state_dict()}
    if released.twice is not None:
        _, again = released.twice
        state = {name: weight for name, weight in state.items() if not name.startswith(again)}
    # Unknown weights keep their names, so that the error can name them.
    load_weights(network, {ours.get(name, name): state[name] for name in state}, path)
    return network


def find_unsaid(path: Path, network: ChangeNetwork, said: Container[str]) -> dict[str, str]:
    """Finds arguments that neither a released file nor the user gives, with a hint for each.

    Args:
        path: The file of the network; for a ctma checkpoint the result is empty.
        network: The loaded network.
        said: Names of the arguments that the user gave.
    """
    if path.suffix not in RELEASED_SUFFIXES or network.released is None:
        return {}
    return {name: hint for name, hint in network.released.unsaid.items() if name not in said}


def read_released(path: str | Path) -> dict[str, Any]:
    """Reads a torch file of a released implementation, without running code.

    Returns:
        The content of the file; ``state_dict`` holds the weights under the released names.

    Raises:
        CheckpointError: If the file is missing, damaged, holds no weights, or is a pickle
            that would run code.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:
        # torch raises pickle, zip, key, value and runtime errors for the same damage.
        if "weights_only" in str(error).lower():
            raise CheckpointError(
                f"{path}: holds more than weights, and loading it would run code; refused"
            ) from error
        raise CheckpointError(f"{path}: not a whole torch file ({first_line(error)})") from error
    if isinstance(content, dict) and "state_dict" not in content:
        content = {"state_dict": content}
    if not isinstance(content, dict) or not _are_weights(content["state_dict"]):
        raise CheckpointError(f"{path}: no state_dict of weights in this file")
    return content


def sort_optimizer(content: Mapping[str, Any], network: ChangeNetwork) -> dict[str, Any] | None:
    """The optimizer state of a released file, in the order of a network's parameters.

    Optimizers number parameters as networks register them, and implementations differ in that.

    Args:
        content: The content of the file, as of ``read_released``.
        network: The network that was loaded from the file.

    Returns:
        The state for an optimizer of all parameters; ``None`` if the file holds none.
    """
    optimizer: dict[str, Any] | None = content.get("optimizer")
    if not optimizer or network.released is None:
        return None
    rename, twice = network.released.rename, network.released.twice
    ours = {rename(name): number for number, (name, _) in enumerate(network.named_parameters())}
    names = [name.removeprefix("module.") for name in content["state_dict"]]
    if twice is not None:
        once, again = twice
        names = [name.replace(again, once, 1) if name.startswith(again) else name for name in names]
    theirs = dict.fromkeys(name for name in names if name in ours)
    places = dict(enumerate(ours[name] for name in theirs))
    state = {places[number]: kept for number, kept in optimizer["state"].items()}
    return optimizer | {"state": state}


def _check_archive(path: Path) -> None:
    """Compares a torch file with its checksums, which ``torch.load`` does not look at."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise CheckpointError(f"{path}: is damaged ({damaged} does not fit its checksum)")


def write_released(path: str | Path, network: ChangeNetwork, **content: Any) -> None:
    """Writes a torch file in the format of a released implementation, whole or not at all.

    Args:
        path: A ``.pth`` path.
        network: The network; it must have a released implementation.
        **content: Further entries of the file, such as ``epoch``, ``optimizer``, ``max_acc``.

    Raises:
        CheckpointError: If no released implementation has the network's layers.
        OutputError: If the file cannot be written.
    """
    released = _released(network, path)
    state = {released.rename(name): value.cpu() for name, value in network.state_dict().items()}
    if released.twice is not None:
        once, again = released.twice
        state |= {
            again + name.removeprefix(once): weight
            for name, weight in state.items()
            if name.startswith(once)
        }
    if network.name not in ENTRIES or released_network(state) != network.name:
        raise _not_released(network, path)
    settings = model_arguments(network.name) | network.arguments
    for name, value in released.arguments.items():
        if settings[name] != value:
            raise CheckpointError(
                f"{path}: the released {network.name} has {name} {value}, this one {settings[name]}"
            )
    with whole_file(path) as part:
        content = {"epoch": 0, "optimizer": {}, "max_acc": (0.0, 0)} | content
        try:
            torch.save(content | {"state_dict": state}, part)
        except RuntimeError as error:
            raise OutputError(f"cannot write {path}: {first_line(error)}") from error


def _released(network: ChangeNetwork, path: str | Path) -> Released:
    if network.released is None:
        raise _not_released(network, path)
    return network.released


def _not_released(network: ChangeNetwork, path: str | Path) -> CheckpointError:
    return CheckpointError(
        f"{path}: no released implementation has the layers of this {network.name}"
    )


def _are_weights(state: Any) -> bool:
    return (
        isinstance(state, Mapping)
        and bool(state)
        and all(
            isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
        )
    )

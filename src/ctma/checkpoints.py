"""Self-describing weights.

A checkpoint is a safetensors file whose header says what it is and how to use it. The
torch files of the released implementation are read as well, without running code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ctma.errors import CheckpointError, CtmaError, OutputError, first_line
from ctma.files import file_fingerprint, whole_file
from ctma.models import ChangeNetwork, create_model
from ctma.models.blocks import channels_last
from ctma.resolution import check_distance

FORMAT_VERSION = 1
_HEADER_KEY = "ctma"
ORIGINAL_SUFFIXES = {".pth", ".pt"}
_SHIPPED = Path(__file__).parent / "weights"


class Header(BaseModel):
    """What a checkpoint says about itself.

    Attributes:
        network: Name for ``create_model``.
        arguments: Its arguments.
        bands: Names of the input bands of one date, in order.
        scaling: The stored value that stands for 1.0 at the network's input.
        ground_sample_distance: Metres a pixel of the training data, where known.
        threshold: Change is where the probability exceeds it.
        temperature: What logits are divided by before they become probabilities.
        offset: What is added to them then.
        calibration: How temperature, offset and threshold were found, where they were.
        training_data: Name, fingerprint and size of the data it was trained on.
        initial_weights: Name and fingerprint of the checkpoint where training began, if any.
        recipe: The full recipe it was trained with.
        epoch: Finished epochs, counted from 1.
        scores: Scores taken, each with its split, protocol, threshold and data fingerprint.
        ctma_version: The version of ctma that wrote it.
        format_version: The version of this header's form.
    """

    model_config = ConfigDict(extra="forbid")

    network: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    bands: list[str] = Field(default_factory=lambda: ["red", "green", "blue"])
    scaling: float = Field(255.0, gt=0)
    ground_sample_distance: float | None = Field(None, gt=0, allow_inf_nan=False)
    threshold: float = Field(0.5, ge=0, le=1)
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False)
    offset: float = Field(0.0, allow_inf_nan=False)
    calibration: dict[str, Any] = Field(default_factory=dict)
    training_data: dict[str, Any] = Field(default_factory=dict)
    initial_weights: dict[str, str] = Field(default_factory=dict)
    recipe: dict[str, Any] = Field(default_factory=dict)
    epoch: int | None = None
    scores: list[dict[str, Any]] = Field(default_factory=list)
    ctma_version: str = ""
    format_version: int = FORMAT_VERSION


def shipped_models() -> list[str]:
    """Names of the checkpoints that come with the package; they stand for their files."""
    return sorted(path.stem for path in _SHIPPED.glob("*.safetensors"))


def find_checkpoint(checkpoint: str | Path) -> Path:
    """The file of a checkpoint that is given by its path, or by its name if it is shipped."""
    if str(checkpoint) in shipped_models():
        return _SHIPPED / f"{checkpoint}.safetensors"
    return Path(checkpoint)


def save_model(
    path: str | Path, network: ChangeNetwork, header: Header, *, half: bool = False
) -> None:
    """Writes a checkpoint, whole or not at all.

    Args:
        path: A ``.safetensors`` path.
        network: The network whose weights are kept.
        header: What they are.
        half: Keep kernels in float16, for a file of half the size; they are loaded as
            float32. Vectors, batch statistics among them, stay as they are.

    Raises:
        CheckpointError: If a weight is too large for half precision.
        OutputError: If the file cannot be written.
    """
    from ctma import __version__

    header = header.model_copy(update={"ctma_version": __version__})
    weights = {
        name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()
    }
    if half:
        weights = {name: _halved(name, weight) for name, weight in weights.items()}
    with whole_file(path) as part:
        try:
            save_file(weights, part, metadata={_HEADER_KEY: header.model_dump_json()})
        except SafetensorError as error:
            raise OutputError(f"cannot write {path}: {first_line(error)}") from error


def _halved(name: str, weight: Tensor) -> Tensor:
    if weight.ndim < 2 or not weight.is_floating_point():
        return weight
    if weight.abs().max() > torch.finfo(torch.float16).max:
        raise CheckpointError(f"{name}: too large for half precision; keep float32")
    return weight.half()


def load_model(path: str | Path, **arguments: Any) -> ChangeNetwork:
    """Loads a network with its weights, in evaluation mode.

    Args:
        path: A checkpoint of ours, the name of a shipped one, or a ``.pth`` file of the
            released implementation.
        **arguments: For a ``.pth`` file, what it does not say, such as ``fusion=0.67``.

    Returns:
        The network; its ``header`` is the checkpoint's :class:`Header`.

    Raises:
        CheckpointError: If the file is no checkpoint, would run code, or its weights do
            not fit the network it names.
    """
    path = find_checkpoint(path)
    if path.suffix in ORIGINAL_SUFFIXES:
        header = Header(network="ctma", arguments=arguments)
        network = create_model(header.network, **header.arguments)
        weights = _from_original(network, read_original(path)["state_dict"])
    else:
        if arguments:
            raise CheckpointError(f"{path}: its header holds the network's arguments, give none")
        header = read_header(path)
        try:
            network = create_model(header.network, **header.arguments)
        except CtmaError as error:
            raise CheckpointError(f"{path}: {error}") from error
        weights = load_file(path)
    load_weights(network, weights, path)
    network.header = header
    network.temperature = header.temperature
    network.offset = header.offset
    return channels_last(network).eval()


def read_header(path: str | Path) -> Header:
    """Reads what a checkpoint says about itself, without its weights.

    Raises:
        CheckpointError: If the file is missing, damaged or no checkpoint of ours.
    """
    path = find_checkpoint(path)
    if not path.is_file():
        shipped = ", ".join(shipped_models())
        raise CheckpointError(f"{path}: no such checkpoint; shipped by name: {shipped}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error})") from error
    if _HEADER_KEY not in metadata:
        raise CheckpointError(f"{path}: no ctma header, so its network is not known")
    try:
        content = json.loads(metadata[_HEADER_KEY])
        version = content.get("format_version")
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"{path}: header of format {version}, not {FORMAT_VERSION}; upgrade ctma"
            )
        return Header.model_validate(content)
    except (json.JSONDecodeError, AttributeError, ValidationError) as error:
        raise CheckpointError(f"{path}: damaged ctma header ({first_line(error)})") from error


def load_weights(network: ChangeNetwork, weights: Mapping[str, Tensor], source: Path) -> None:
    """Puts weights into a network if all fit, else changes nothing.

    Raises:
        CheckpointError: If a weight is missing, surplus or misshapen; it names them.
    """
    own = network.state_dict()
    problems = [f"{name} is missing" for name in own if name not in weights]
    problems += [f"{name} is surplus" for name in weights if name not in own]
    problems += [
        f"{name} is {tuple(weights[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if problems:
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(f"{source}: weights do not fit: {'; '.join(problems[:3])}{more}")
    network.load_state_dict(weights)


def read_original(path: str | Path) -> dict[str, Any]:
    """Reads a torch file of the released implementation, without running code.

    Returns:
        Its content; ``state_dict`` holds weights under the released names.

    Raises:
        CheckpointError: If the file is missing, damaged, holds no weights, or is a pickle
            that would run code.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch raises pickle, zip, key, value and runtime errors for one and the same damage.
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


def write_original(path: str | Path, network: ChangeNetwork, **content: Any) -> None:
    """Writes a torch file as the released implementation does, whole or not at all.

    Args:
        path: A ``.pth`` path.
        network: The network; it must have a released implementation.
        **content: What else goes in, such as ``epoch``, ``optimizer``, ``max_acc``.

    Raises:
        OutputError: If the file cannot be written.
    """
    state = {
        original_name(network, name): value.cpu() for name, value in network.state_dict().items()
    }
    with whole_file(path) as part:
        content = {"epoch": 0, "optimizer": {}, "max_acc": (0.0, 0)} | content
        try:
            torch.save(content | {"state_dict": state}, part)
        except RuntimeError as error:
            raise OutputError(f"cannot write {path}: {first_line(error)}") from error


def convert_weights(
    source: str | Path,
    target: str | Path,
    *,
    arguments: Mapping[str, Any] | None = None,
    ground_sample_distance: float | None = None,
    half: bool = False,
) -> Header:
    """Converts an original ``.pth`` to a checkpoint of ours, or a checkpoint back.

    Args:
        source: What is converted; its suffix says what it is.
        target: The other kind; with ``half``, a checkpoint of ours in any case.
        arguments: For a ``.pth``, what it does not say, such as ``fusion=0.67``.
        ground_sample_distance: Metres a pixel of what it was trained on, for the header.
        half: Keep kernels in float16, see :func:`save_model`.

    Returns:
        The header of the checkpoint.

    Raises:
        CheckpointError: If the kinds do not fit, source and target are one, the source cannot
            be read, or a weight is too large for half precision.
        OutputError: If the target cannot be written.
        SettingError: If the distance is not above 0.
    """
    if ground_sample_distance is not None:
        check_distance(ground_sample_distance)
    source, target = find_checkpoint(source), Path(target)
    if source.resolve() == target.resolve():
        raise CheckpointError(f"{source}: would be overwritten; name another file")
    ours = {".safetensors"}
    routes = ((ORIGINAL_SUFFIXES, ours), (ours, ours if half else ORIGINAL_SUFFIXES))
    if not any(source.suffix in a and target.suffix in b for a, b in routes):
        raise CheckpointError(
            f"{source} to {target}: convert takes a .pth to a .safetensors, or the other way; "
            "with --half, either to a .safetensors"
        )
    network = load_model(source, **(arguments or {}))
    header: Header = network.header
    if target.suffix in ORIGINAL_SUFFIXES:
        if header.network != "ctma":
            raise CheckpointError(f"{source}: {header.network} has no released implementation")
        write_original(target, network, **_original_progress(header))
        return header
    if ground_sample_distance is not None:
        header = header.model_copy(update={"ground_sample_distance": ground_sample_distance})
    save_model(target, network, header, half=half)
    return header


def _original_progress(header: Header) -> dict[str, Any]:
    """Epoch and best F1 as released files say them; epochs count from 0 there."""
    epoch = max((header.epoch or 1) - 1, 0)
    best = next((record["f1"] for record in header.scores if "f1" in record), 0.0)
    return {"epoch": epoch, "max_acc": (best, epoch)}


def describe(path: str | Path) -> dict[str, Any]:
    """What is in a checkpoint, as plain values: its header, parameters and bytes.

    Raises:
        CheckpointError: If it cannot be read.
    """
    path = find_checkpoint(path)
    network = load_model(path)
    return {
        "file": str(path),
        "fingerprint": file_fingerprint(path),
        "bytes": Path(path).stat().st_size,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        **network.header.model_dump(mode="json"),
    }


def original_name(network: ChangeNetwork, name: str) -> str:
    """The released implementation's name of one of our weights."""
    for pattern, replacement in network.original_names:
        name = re.sub(pattern, replacement, name)
    return name


def _from_original(network: ChangeNetwork, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames released weights to ours; those unknown keep their names, to be named in errors."""
    ours = {original_name(network, name): name for name in network.state_dict()}
    plain = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return {ours.get(name, name): tensor for name, tensor in plain.items()}


def _are_weights(state: Any) -> bool:
    return (
        isinstance(state, Mapping)
        and bool(state)
        and all(
            isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
        )
    )

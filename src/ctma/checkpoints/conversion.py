"""Converts checkpoints from one format to another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctma.checkpoints.header import RELEASED_SUFFIXES, find_checkpoint, is_adapter, is_half
from ctma.checkpoints.released import find_unsaid, write_released
from ctma.checkpoints.store import load_model, save_model
from ctma.errors import CheckpointError, warn
from ctma.files import refuse_existing
from ctma.models.base import ChangeNetwork
from ctma.models.usage import Usage


def convert(
    source: str | Path,
    target: str | Path,
    *,
    arguments: Mapping[str, Any] | None = None,
    half: bool | None = None,
    ground_sample_distance: float | None = None,
    threshold: float | None = None,
    temperature: float | None = None,
    offset: float | None = None,
    overwrite: bool = False,
) -> ChangeNetwork:
    """Converts a released ``.pth`` file to a ctma checkpoint, or a ctma checkpoint to a ``.pth``.

    Args:
        source: The file to convert; its suffix gives its format.
        target: The file to write, in the other format. With ``half`` the target must be a ctma
            checkpoint. With one of the four header values below, or for an adapter, the target may
            be a ctma checkpoint even if the source is one.
        arguments: Network arguments that a ``.pth`` file does not hold, such as
            ``{"fusion": 0.67}``.
        half: Store kernels in float16, see ``save_model``; by default as in the source.
        ground_sample_distance: Header value: ground sample distance of the training data, in
            metres per pixel.
        threshold: Header value: a pixel is change if its probability exceeds the threshold.
        temperature: Header value: the network's logits are divided by the temperature.
        offset: Header value: the offset is added to the divided logits.
        overwrite: Replace an existing target.

    Returns:
        The converted network.

    Raises:
        CheckpointError: If ctma cannot convert between the two formats, source and target are
            the same file, the source is unreadable, the source lacks an argument of its network,
            or a weight is too large for half precision.
        OutputError: If the target cannot be written, or exists and ``overwrite`` is false.
        SettingError: If a header value is out of its range.
    """
    source, target = find_checkpoint(source), Path(target)
    said = {
        "ground_sample_distance": ground_sample_distance, "threshold": threshold,
        "temperature": temperature, "offset": offset,
    }  # fmt: skip
    usage = {name: value for name, value in said.items() if value is not None}
    changes = bool(usage) or (source.is_file() and is_adapter(source))
    _check_kinds(source, target, half=half, changes=changes)
    refuse_existing(target, overwrite)
    network = load_model(source, arguments)
    for name, hint in find_unsaid(source, network, arguments or {}).items():
        raise CheckpointError(f"{source}: a released file does not say `{name}`; give it: {hint}")
    network.usage = network.usage.replace(**usage)
    if target.suffix in RELEASED_SUFFIXES:
        write_released(target, network, **_released_progress(network.provenance))
        if lost := _cannot_hold(network):
            warn(f"{target.name} cannot hold {lost}; say it again where it is read")
    else:
        # Another threshold keeps no promise.
        kept = usage.keys() <= {"ground_sample_distance"}
        other: dict[str, Any] = {} if kept else {"promise": {}}
        save_model(target, network, half=is_half(source) if half is None else half, **other)
    return network


def _check_kinds(source: Path, target: Path, *, half: bool | None, changes: bool) -> None:
    """Refuses pairs of file formats that ctma cannot convert."""
    if source.resolve() == target.resolve():
        raise CheckpointError(f"{source}: would be overwritten; name another file")
    ours = {".safetensors"}
    from_ours = ours if half is not None else RELEASED_SUFFIXES | (ours if changes else set())
    routes = ((RELEASED_SUFFIXES, ours), (ours, from_ours))
    if not any(source.suffix in a and target.suffix in b for a, b in routes):
        raise CheckpointError(
            f"{source} to {target}: convert takes a .pth to a .safetensors, or the other way; "
            "with `half` or values for its header, either to a .safetensors"
        )


def _cannot_hold(network: ChangeNetwork) -> str:
    """Lists the arguments and usage values of a network that a released file cannot store."""
    usage, plain = dict(network.usage), dict(Usage())
    settings = network.arguments | {
        name: usage[name] for name in usage if usage[name] != plain[name]
    }
    # The user can pass these arguments again when ctma reads the released file.
    taken = network.released.arguments if network.released else ()
    settings = {key: value for key, value in settings.items() if key not in taken}
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def _released_progress(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Epoch and best F1 in the form of released files, which count epochs from 0."""
    epoch = max((provenance.get("epoch") or 1) - 1, 0)
    scores = provenance.get("scores", [])
    best = next((record["f1"] for record in scores if "f1" in record), 0.0)
    return {"epoch": epoch, "max_acc": (best, epoch)}

"""Checkpoints of one kind to another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctma.checkpoints.header import RELEASED_SUFFIXES, find_checkpoint, is_half
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
    """Converts an original ``.pth`` to a checkpoint of ours, or a checkpoint back.

    Args:
        source: What is converted; its suffix says what it is.
        target: The other kind; with ``half`` a checkpoint of ours in any case, with one of the four
            values for its header it may be one.
        arguments: For a ``.pth``, what it does not say, such as ``{"fusion": 0.67}``.
        half: Whether kernels are kept in float16, see ``save_model``; by default as in the source.
        ground_sample_distance: For the header: metres a pixel of the training data.
        threshold: For the header: change is where the probability exceeds it.
        temperature: For the header: what logits are divided by.
        offset: For the header: what is added to them then.
        overwrite: Replace the target if it is there.

    Returns:
        The network.

    Raises:
        CheckpointError: If the kinds do not fit, source and target are one, the source cannot
            be read or does not say all that its network needs, or a weight is too large for
            half precision.
        OutputError: If the target cannot be written, or is there and not to be replaced.
        SettingError: If a value for the header is out of its range.
    """
    source, target = find_checkpoint(source), Path(target)
    said = {
        "ground_sample_distance": ground_sample_distance, "threshold": threshold,
        "temperature": temperature, "offset": offset,
    }  # fmt: skip
    usage = {name: value for name, value in said.items() if value is not None}
    _check_kinds(source, target, half=half, changes=bool(usage))
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
        save_model(target, network, half=is_half(source) if half is None else half)
    return network


def _check_kinds(source: Path, target: Path, *, half: bool | None, changes: bool) -> None:
    """Refuses kinds of files that are not converted one to the other."""
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
    """What a network knows beside its weights and a released file has no place for."""
    usage, plain = dict(network.usage), dict(Usage())
    known = network.arguments | {name: usage[name] for name in usage if usage[name] != plain[name]}
    # These are taken where a released file is read.
    taken = network.released.arguments if network.released else ()
    known = {key: value for key, value in known.items() if key not in taken}
    return ", ".join(f"{name} {value}" for name, value in known.items())


def _released_progress(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Epoch and best F1 as released files say them; epochs count from 0 there."""
    epoch = max((provenance.get("epoch") or 1) - 1, 0)
    scores = provenance.get("scores", [])
    best = next((record["f1"] for record in scores if "f1" in record), 0.0)
    return {"epoch": epoch, "max_acc": (best, epoch)}

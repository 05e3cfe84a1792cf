"""Which training an interrupted one is, and whether it is the one that shall go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from ctma.checkpoints.header import find_checkpoint, read_header
from ctma.checkpoints.released import read_released
from ctma.checkpoints.weights import load_weights
from ctma.errors import CheckpointError, OutputError, SettingError
from ctma.files import file_fingerprint
from ctma.models.base import ChangeNetwork
from ctma.models.registry import model_arguments
from ctma.training.keeper import LATEST, LATEST_WEIGHTS, RECIPE, CheckpointKeeper
from ctma.training.recipes import check_recipe, load_kept
from ctma.training.settings import Recipe

FREE = {"name", "origin", "data.workers", "trainer.epochs", "trainer.patience"}
"""What a resumed training may change: it has no part in the epochs that are done."""


def find_latest(
    output: Path, recipe: Recipe, *, resume: bool, init: str | Path | None
) -> Path | None:
    """The training state to continue from, if any.

    Args:
        output: The run's folder.
        recipe: By which to go on.
        resume: Whether to continue where there is something.
        init: The checkpoint where the training begins, if one is named.

    Raises:
        OutputError: If there is one, and it is not to be continued.
        SettingError: If it was begun by other settings or from another checkpoint.
        CheckpointError: If ``init`` is not there.
    """
    latest = output / LATEST
    if not latest.exists():
        return None
    if not resume:
        _refuse(output)
        return None
    _check_same_recipe(output / RECIPE, recipe)
    if init is not None:
        _check_same_initial(output, find_checkpoint(init))
    return latest


@rank_zero_only
def _refuse(output: Path) -> None:
    """Only in the first process: others may find what it has just written."""
    raise OutputError(f"{output}: holds a training already; add `resume` or name a new folder")


@dataclass(frozen=True)
class Former:
    """What came before a training goes on.

    Attributes:
        epoch: Epochs that are done.
        without_rise: How many of them, at the end, brought no better F1.
        kept: What its :class:`CheckpointKeeper` knew.
    """

    epoch: int = 0
    without_rise: int = 0
    kept: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return (
            f"stopped after {self.epoch} epochs: the last {self.without_rise} brought no better F1"
        )

    def stopped_early(self, patience: int | None) -> bool:
        """Whether the training has stopped for want of a better F1."""
        return patience is not None and self.without_rise >= patience


def check_latest(
    path: Path | None, network: ChangeNetwork, recipe: Recipe, computing: dict[str, str]
) -> Former:
    """Refuses to continue from what is not this network's training state, as it computes here.

    Args:
        path: ``latest.ckpt``, ``None`` where a training begins.
        network: The recipe's network; gets the weights.
        recipe: By which to go on.
        computing: What computes now.

    Raises:
        CheckpointError: If it is damaged or no training state of this network.
        SettingError: If more epochs are done than the recipe has, or other versions, another
            device or engine computed it; former versions of ctma did not say.
    """
    if path is None:
        return Former()
    content = read_released(path)
    prefix = "network."
    weights = {
        name.removeprefix(prefix): weight
        for name, weight in content["state_dict"].items()
        if name.startswith(prefix)
    }
    load_weights(network, weights, path)
    if "pytorch-lightning_version" not in content:
        raise CheckpointError(f"{path}: holds weights but no training state; use `init`")
    callbacks = content.get("callbacks", {})
    kept = callbacks.get(CheckpointKeeper.__qualname__, {})
    for name, former in kept.get("computing", {}).items():
        if former != computing.get(name):
            raise _differs(path.parent, name, former, computing.get(name))
    epoch, epochs = int(content["epoch"]) + 1, recipe.trainer.epochs
    if epoch > epochs:
        raise SettingError(f"{path.parent}: has {epoch} epochs, more than {epochs}")
    stopping = (callbacks[name] for name in callbacks if name.startswith("EarlyStopping"))
    return Former(epoch, sum(int(state["wait_count"]) for state in stopping), kept)


def _differs(output: Path, name: str, found: Any, wanted: Any) -> SettingError:
    return SettingError(
        f"{output}: was trained with {name} {found}, not {wanted}; name a new folder "
        f"(`init` {output / LATEST_WEIGHTS} starts from its weights)"
    )


def _check_same_recipe(path: Path, recipe: Recipe) -> None:
    """Refuses to continue by other settings than the training was begun with."""
    weights = path.with_name(LATEST_WEIGHTS)
    if path.exists():
        former = load_kept(path)
    elif weights.exists():
        former = check_recipe(read_header(weights).recipe)
    else:
        return
    # One cycle has as many steps as the training was begun with.
    free = FREE - {"trainer.epochs"} if recipe.schedule.name == "one-cycle" else FREE
    contents = (_whole(former), _whole(recipe))
    for name, found, wanted in _differences(*contents):
        if name not in free:
            raise _differs(path.parent, name, found, wanted)


def _whole(recipe: Recipe) -> dict[str, Any]:
    """A recipe with every argument of its network."""
    defaults = json.loads(json.dumps(model_arguments(recipe.network)))
    content = recipe.model_dump(mode="json")
    return content | {"model": defaults | content["model"]}


def _differences(
    former: dict[str, Any], recipe: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Dotted keys with their two values, where these differ."""
    for key in former | recipe:
        found, wanted = former.get(key), recipe.get(key)
        if isinstance(found, dict) and isinstance(wanted, dict):
            yield from _differences(found, wanted, f"{prefix}{key}.")
        elif found != wanted:
            yield prefix + key, found, wanted


def _check_same_initial(output: Path, init: Path) -> None:
    """Refuses to continue a training that began from other weights than those named."""
    weights = output / LATEST_WEIGHTS
    if not weights.exists():
        return
    if not init.is_file():
        raise CheckpointError(f"{init}: no such checkpoint; a training resumes without `init` too")
    former = read_header(weights).initial_weights
    if former.get("fingerprint") != file_fingerprint(init):
        raise SettingError(
            f"{output}: began from {former.get('name', 'no checkpoint')}, not from {init} as it "
            "is now; name a new folder, or resume without `init`"
        )

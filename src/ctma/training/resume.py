"""Finds an interrupted training and checks that the new settings may continue it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from ctma.checkpoints.header import RUN_BEST, find_checkpoint, read_header
from ctma.checkpoints.released import read_released
from ctma.checkpoints.weights import load_weights
from ctma.errors import CheckpointError, OutputError, SettingError
from ctma.files import file_fingerprint
from ctma.models.base import ChangeNetwork
from ctma.models.registry import whole_arguments
from ctma.training.keeper import FIRST, LATEST, LATEST_WEIGHTS, RECIPE, CheckpointKeeper
from ctma.training.recipes import check_recipe, load_kept
from ctma.training.settings import Recipe

FREE = {"name", "origin", "data.workers", "trainer.epochs", "trainer.patience"}
"""Keys that a resumed training may change, because they do not affect the finished epochs."""


def find_latest(
    output: Path, recipe: Recipe, *, resume: bool, init: str | Path | None
) -> Path | None:
    """The training state to continue from, if any.

    Args:
        output: The run's folder.
        recipe: The recipe of the resumed training.
        resume: Whether to continue an existing training.
        init: The checkpoint where the training begins, if any.

    Raises:
        OutputError: If the folder holds a training and ``resume`` is false, or holds weights but
            no training state to resume from.
        SettingError: If the training began with other settings or from another checkpoint.
        CheckpointError: If the checkpoint ``init`` does not exist.
    """
    latest = output / LATEST
    if not resume:
        _refuse_training(output)
        return None
    if not latest.exists():
        _refuse_weights(output)
        return None
    _check_same_recipe(output / RECIPE, recipe)
    if init is not None:
        _check_same_initial(output, find_checkpoint(init))
    return latest


# Both refuse in the first process only: others may see files that the first just wrote.
@rank_zero_only
def _refuse_training(output: Path) -> None:
    """Refuses a folder that holds the state or the weights of a training."""
    if any((output / name).exists() for name in (LATEST, LATEST_WEIGHTS, RUN_BEST)):
        raise OutputError(f"{output}: holds a training already; add `resume` or name a new folder")


@rank_zero_only
def _refuse_weights(output: Path) -> None:
    """Refuses a folder whose weights a new training would replace."""
    if (output / FIRST).exists():
        return
    for name in (LATEST_WEIGHTS, RUN_BEST):
        if (output / name).exists():
            raise OutputError(
                f"{output}: holds {name}, but {LATEST} is gone, from which a training resumes; "
                f"name a new folder (`init` {output / name} starts from its weights)"
            )


@dataclass(frozen=True)
class Former:
    """The progress of a training before it is resumed.

    Attributes:
        epoch: Number of epochs that are done.
        without_rise: Number of epochs since the best F1.
        kept: The saved state of ``CheckpointKeeper``.
    """

    epoch: int = 0
    without_rise: int = 0
    kept: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return (
            f"stopped after {self.epoch} epochs: the last {self.without_rise} brought no better F1"
        )

    def stopped_early(self, patience: int | None) -> bool:
        """Whether early stopping has ended the training."""
        return patience is not None and self.without_rise >= patience


def check_latest(
    path: Path | None, network: ChangeNetwork, recipe: Recipe, computing: dict[str, str]
) -> Former:
    """Loads the weights of a training state and checks that the training can continue here.

    Args:
        path: ``latest.ckpt``, or ``None`` for a new training.
        network: The recipe's network; gets the weights.
        recipe: The recipe of the resumed training.
        computing: Versions, kind of device and engine of this run.

    Raises:
        CheckpointError: If the file is damaged or no training state of this network.
        SettingError: If more epochs are done than the recipe has, or if other versions, another
            device or another engine computed them. Old versions of ctma did not record these.
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
    keeper_state = callbacks.get(CheckpointKeeper.__qualname__, {})
    for name, old_value in keeper_state.get("computing", {}).items():
        if old_value != computing.get(name):
            raise _differs(path.parent, name, old_value, computing.get(name))
    epoch, epochs = int(content["epoch"]) + 1, recipe.trainer.epochs
    if epoch > epochs:
        raise SettingError(f"{path.parent}: has {epoch} epochs, more than {epochs}")
    stopping = (callbacks[name] for name in callbacks if name.startswith("EarlyStopping"))
    return Former(epoch, sum(int(state["wait_count"]) for state in stopping), keeper_state)


def _differs(output: Path, name: str, value: Any, wanted: Any) -> SettingError:
    return SettingError(
        f"{output}: was trained with {name} {value}, not {wanted}; name a new folder "
        f"(`init` {output / LATEST_WEIGHTS} starts from its weights)"
    )


def _check_same_recipe(path: Path, recipe: Recipe) -> None:
    """Refuses to continue with other settings than at the start of the training."""
    weights = path.with_name(LATEST_WEIGHTS)
    if path.exists():
        old_recipe = load_kept(path)
    elif weights.exists():
        old_recipe = check_recipe(read_header(weights).recipe)
    else:
        return
    # The start of the training fixes the number of steps of a one-cycle schedule.
    free = FREE - {"trainer.epochs"} if recipe.schedule.name == "one-cycle" else FREE
    contents = (_whole(old_recipe), _whole(recipe))
    for name, old_value, new_value in _differences(*contents):
        if name not in free:
            raise _differs(path.parent, name, old_value, new_value)


def _whole(recipe: Recipe) -> dict[str, Any]:
    """A recipe with every argument of its network."""
    content = recipe.model_dump(mode="json")
    return content | {"model": whole_arguments(recipe.network, content["model"])}


def _differences(
    former: dict[str, Any], recipe: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Yields each dotted key whose two values differ, with both values."""
    for key in former | recipe:
        old_value, new_value = former.get(key), recipe.get(key)
        if isinstance(old_value, dict) and isinstance(new_value, dict):
            yield from _differences(old_value, new_value, f"{prefix}{key}.")
        elif old_value != new_value:
            yield prefix + key, old_value, new_value


def _check_same_initial(output: Path, init: Path) -> None:
    """Refuses to continue a training that began from other weights than ``init``."""
    weights = output / LATEST_WEIGHTS
    if not weights.exists():
        return
    if not init.is_file():
        raise CheckpointError(f"{init}: no such checkpoint; a training resumes without `init` too")
    initial = read_header(weights).initial_weights
    if initial.get("fingerprint") != file_fingerprint(init):
        raise SettingError(
            f"{output}: began from {initial.get('name', 'no checkpoint')}, not from {init} as it "
            "is now; name a new folder, or resume without `init`"
        )

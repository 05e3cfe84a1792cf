"""Runs a training: from a recipe and a data folder to checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import lightning.pytorch as pl
import torch.distributed
from lightning.pytorch.callbacks import Callback

from ctma.checkpoints.header import find_checkpoint
from ctma.devices import describe_computing, find_device, find_precision
from ctma.engines.eager import Eager
from ctma.files import sole_run
from ctma.inference.images import check_takes_images
from ctma.training.initial import create_network, load_initial
from ctma.training.keeper import RECIPE, CheckpointKeeper, TrainingResult
from ctma.training.loaders import PairsModule, TrainingPairs, find_training_pairs
from ctma.training.logs import Lines, Logs
from ctma.training.module import ChangeModule
from ctma.training.recipes import check_recipe, load_kept, load_recipe
from ctma.training.resume import Former, check_latest, find_latest
from ctma.training.settings import Recipe
from ctma.training.trainer import Hardware, create_trainer, quiet_lightning
from ctma.types import Say, ignore


def train(
    recipe: str | Recipe,
    data: str | Path,
    output: str | Path,
    *,
    devices: int = 1,
    device: str = "auto",
    precision: str | None = None,
    resume: bool = False,
    init: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    on_note: Say = ignore,
) -> TrainingResult:
    """Trains by a recipe and keeps the best checkpoint by validation F1.

    The output folder gets ``best.safetensors``, ``latest.safetensors`` (the weights after
    the last epoch), ``latest.ckpt`` (for resuming), ``recipe.yaml`` and ``logs/``
    with ``metrics.csv`` and TensorBoard's files.

    Args:
        recipe: What to train, and how: a recipe or its name, see ``load_recipe``.
        data: A data folder with a training and a validation split.
        output: The run's folder.
        devices: How many processes share the work, one a device.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, or ``"cuda:1"`` for the second GPU.
        precision: Overrides the recipe's; ``"auto"`` is bf16 where the hardware multiplies it,
            and what the run began in when it is resumed.
        resume: Continue from ``latest.ckpt`` where there is one.
        init: A checkpoint whose weights are where training starts, for fine-tuning; one of a
            smaller CTMA is grown.
        callbacks: Further callbacks for the trainer.
        on_note: Called with lines on data, ``init`` and ``resume``; where standard output is no
            terminal, also after each epoch and at least every minute.

    Raises:
        CheckpointError: If the weights of ``init`` do not fit the recipe's network.
        DataError: If the data is not there or not whole.
        SettingError: If the network cannot be built or the device is not there.
        OutputError: If the folder cannot be written, holds another training, or one is at work
            there.
    """
    output = Path(output)
    hardware = Hardware(device, devices)
    recipe = _settle(recipe, hardware, precision, output / RECIPE if resume else None)
    found = find_training_pairs(Path(data), recipe.data)
    found.check_shared(devices)
    latest = find_latest(output, recipe, resume=resume, init=init)
    seed_everything(recipe.seed)
    network = create_network(recipe, pretrained=latest is None and init is None)
    computing = describe_computing(find_device(device), Eager.name)
    former = check_latest(latest, network, recipe, computing)
    pairs = PairsModule(found, recipe.data, recipe.seed, former.epoch)
    initial: dict[str, str] = {}
    if latest is None and init is not None:
        initial = load_initial(network, find_checkpoint(init), recipe, pairs, on_note)
    keeper = CheckpointKeeper(output, recipe, found, initial, computing)
    if former.stopped_early(recipe.trainer.patience):
        on_note(f"{former}; a larger trainer.patience goes on")
        keeper.load_state_dict(former.kept)
        return keeper.result()
    _tell_begin(on_note, pairs, resume and latest is None)
    logs, module = _log(recipe, found, former), ChangeModule(network, recipe)
    callbacks = [keeper, Lines(on_note), *callbacks]
    fit(module, pairs, output, callbacks, hardware, logs, latest, keeper.begin)
    return keeper.result()


def fit(
    module: ChangeModule,
    pairs: PairsModule,
    output: Path,
    callbacks: list[Callback],
    hardware: Hardware,
    logs: Logs,
    latest: Path | None = None,
    begin: Callable[[], None] = ignore,
    alone: bool = True,
) -> None:
    """Lets a network learn from pairs; a group of processes that is there before stays.

    Args:
        module: The network with its recipe.
        pairs: What it learns from.
        output: The run's folder; gets ``logs/``.
        callbacks: What keeps the checkpoints, and more.
        hardware: Where it runs.
        logs: What is written down.
        latest: Lightning's training state to continue from.
        begin: Called once in the first process, before the first step.
        alone: Whether to keep other trainings out of the folder.

    Raises:
        SettingError: If the device is not there, or the network takes other bands than images
            have.
        OutputError: If the folder cannot be written, or a training is at work there.
    """
    check_takes_images(module.network)
    joined = torch.distributed.is_initialized()
    with quiet_lightning():
        trainer = create_trainer(module.recipe, output, callbacks, hardware, logs)
        with sole_run(output) if alone and trainer.is_global_zero else nullcontext():
            if trainer.is_global_zero:
                begin()
                logs.begin(trainer.loggers, output, module.recipe)
            with _interruptible():
                trainer.fit(module, datamodule=pairs, ckpt_path=latest, weights_only=True)
    if torch.distributed.is_initialized() and not joined:
        # What is scored next is of one process, and must not wait for the others.
        torch.distributed.destroy_process_group()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Lets Ctrl-C be what it is everywhere; Lightning makes an exit with code 1 of it."""
    try:
        yield
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from end
        raise


def seed_everything(seed: int) -> None:
    """Seeds the random numbers of all libraries, in loader processes too."""
    pl.seed_everything(seed, workers=True, verbose=False)


def _settle(
    recipe: str | Recipe, hardware: Hardware, precision: str | None, kept: Path | None
) -> Recipe:
    """The recipe with the precision asked for, if it can be trained here."""
    if isinstance(recipe, Recipe):
        recipe = check_recipe(recipe.model_dump(mode="json"))
    else:
        recipe = load_recipe(recipe)
    hardware.check()
    if precision is None:
        return recipe
    content = recipe.model_dump(mode="json")
    if precision == "auto" and kept is not None and kept.exists():
        content["trainer"]["precision"] = load_kept(kept).trainer.precision
    else:
        device = find_device(hardware.device)
        content["trainer"]["precision"] = find_precision(precision, device)
    return check_recipe(content)


def _tell_begin(on_note: Say, pairs: PairsModule, nothing_to_resume: bool) -> None:
    if nothing_to_resume:
        on_note("there is no training to resume yet, a new one begins")
    splits = f"{pairs.settings.training_split} and {pairs.settings.validation_split}"
    on_note(f"{splits}: {pairs.training.note}; {pairs.validation.note}")


def _log(recipe: Recipe, pairs: TrainingPairs, former: Former) -> Logs:
    """A line every ten steps, or every epoch where it has fewer."""
    drawn = recipe.data.draws or pairs.count * recipe.data.repeats
    return Logs(interval=max(1, min(10, drawn // recipe.data.batch_size)), done=former.epoch)

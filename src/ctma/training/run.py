"""Runs a training: from a recipe and a data folder to checkpoints."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import lightning.pytorch as pl
import torch.distributed
from lightning.pytorch.callbacks import Callback

from ctma.checkpoints.header import find_checkpoint, read_header
from ctma.checkpoints.store import load_model
from ctma.data.rasters import settle_usage
from ctma.devices import describe_computing, find_device, find_precision
from ctma.engines.eager import Eager
from ctma.evaluation.seen import see
from ctma.files import sole_run, write_errors
from ctma.models.base import ChangeNetwork
from ctma.training.initial import create_network, inherit_usage, load_initial
from ctma.training.keeper import LATEST_WEIGHTS, RECIPE, CheckpointKeeper, TrainingResult
from ctma.training.loaders import PairsModule, TrainingPairs, find_training_pairs
from ctma.training.logs import Lines, Logs
from ctma.training.module import ChangeModule
from ctma.training.recipes import check_recipe, load_kept, load_recipe
from ctma.training.resume import Former, check_latest, find_latest
from ctma.training.settings import Recipe
from ctma.training.teachers import check_teachers, fingerprint_teachers
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
        devices: Number of processes that share the work, one per device.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, or ``"cuda:1"`` for the second GPU.
        precision: Overrides the recipe's precision. ``"auto"`` is bf16 where the hardware can
            multiply bf16. A resumed run with ``"auto"`` keeps its first precision.
        resume: Continue from ``latest.ckpt``, if the file exists.
        init: A checkpoint for fine-tuning: the training starts from its weights. A smaller CTMA
            is grown, and a network of fewer bands is widened.
        callbacks: Further callbacks for the trainer.
        on_note: Called with lines of text about data, ``init`` and ``resume``. Where standard
            output is no terminal, also called after each epoch and at least every minute.

    Returns:
        The best checkpoint, with its epoch and validation scores.

    Raises:
        CheckpointError: If the weights of ``init`` do not fit the recipe's network.
        DataError: If the data are missing or incomplete.
        SettingError: If the network cannot be built or the device is not available.
        OutputError: If the folder cannot be written or holds another training, or if a training
            is running there.
    """
    output = Path(output)
    hardware = Hardware(device, devices)
    recipe = _settle(recipe, hardware, precision, output / RECIPE if resume else None)
    teachers = fingerprint_teachers(recipe)
    training_pairs = find_training_pairs(Path(data), recipe.data)
    training_pairs.check_shared(devices)
    latest = find_latest(output, recipe, resume=resume, init=init)
    seed_everything(recipe.seed)
    network = create_network(recipe, pretrained=latest is None and init is None)
    computing = (
        describe_computing(find_device(device), Eager.name)
        | {"devices": str(devices)}
        | {f"teacher {path}": fingerprint for path, fingerprint in teachers.items()}
    )
    progress = check_latest(latest, network, recipe, computing)
    begun = None if init is None or latest is not None else find_checkpoint(init)
    initial_network = None if begun is None else load_model(begun)
    _take_images_as_before(network, latest, initial_network)
    network.usage = see(
        settle_usage(network.usage, training_pairs.training[0]), training_pairs.training
    )
    check_teachers(recipe, network.usage)
    pairs = PairsModule(
        training_pairs,
        recipe.data,
        recipe.seed,
        progress.epoch,
        network.usage,
        taught=bool(teachers),
    )
    initial: dict[str, str] = {}
    if begun is not None and initial_network is not None:
        initial = load_initial(network, initial_network, begun, recipe, pairs, on_note)
    keeper = CheckpointKeeper(output, recipe, training_pairs, initial, teachers, computing)
    if progress.stopped_early(recipe.trainer.patience):
        on_note(f"{progress}; a larger trainer.patience goes on")
        keeper.load_state_dict(progress.kept)
        return keeper.result()
    _tell_begin(on_note, pairs, resume and latest is None)
    logs, module = _log(recipe, training_pairs, progress), ChangeModule(network, recipe)
    callbacks = [keeper, Lines(on_note), *callbacks]
    fit(module, pairs, output, callbacks, hardware, logs, latest, keeper.begin)
    return keeper.result()


def _take_images_as_before(
    network: ChangeNetwork, latest: Path | None, initial: ChangeNetwork | None
) -> None:
    """Takes images as the interrupted training did, or as the initial network does."""
    if latest is not None:
        weights = latest.with_name(LATEST_WEIGHTS)
        if weights.exists():
            inherit_usage(network, read_header(weights))
    elif initial is not None:
        inherit_usage(network, initial.usage)


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
    """Trains a network on pairs; an existing process group stays.

    Args:
        module: The network with its recipe.
        pairs: The training and validation pairs.
        output: The run's folder; gets ``logs/``.
        callbacks: The callback that saves the checkpoints, and others.
        hardware: The devices to train on.
        logs: What the training logs.
        latest: Lightning's training state to continue from.
        begin: Called once in the first process, before the first step.
        alone: Whether to keep other trainings out of the folder.

    Raises:
        SettingError: If the device is not available.
        OutputError: If the folder cannot be written, or another training is running there.
    """
    joined = torch.distributed.is_initialized()
    with quiet_lightning():
        trainer = create_trainer(module.recipe, output, callbacks, hardware, logs)
        lock = sole_run(output) if alone and trainer.is_global_zero else nullcontext()
        with lock, _writing(output), _interruptible():
            if trainer.is_global_zero:
                begin()
                logs.begin(trainer.loggers, output, module.recipe)
            trainer.fit(module, datamodule=pairs, ckpt_path=latest, weights_only=True)
    if torch.distributed.is_initialized() and not joined:
        # The next scoring runs in one process and must not wait for the others.
        torch.distributed.destroy_process_group()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Raises ``KeyboardInterrupt`` on Ctrl-C, where Lightning exits with code 1."""
    try:
        yield
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from end
        raise


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    """Turns a write that fails into one line, also where a thread of TensorBoard writes.

    Raises:
        OutputError: Instead of ``OSError``.
    """
    usual = threading.excepthook

    def quiet(end: threading.ExceptHookArgs) -> None:
        # TensorBoard raises the error again where the training waits for its thread.
        if not isinstance(end.exc_value, OSError):
            usual(end)

    threading.excepthook = quiet
    try:
        with write_errors(output):
            yield
    finally:
        threading.excepthook = usual


def seed_everything(seed: int) -> None:
    """Seeds the random numbers of all libraries, in loader processes too."""
    pl.seed_everything(seed, workers=True, verbose=False)


def _settle(
    recipe: str | Recipe, hardware: Hardware, precision: str | None, kept: Path | None
) -> Recipe:
    """The recipe with the requested precision, if the hardware can train it."""
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
    """Logs with a line every ten steps, or every epoch if an epoch has fewer steps."""
    drawn = recipe.data.draws or pairs.count * recipe.data.repeats
    return Logs(interval=max(1, min(10, drawn // recipe.data.batch_size)), done=former.epoch)

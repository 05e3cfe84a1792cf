"""Runs a training: from a recipe and a data folder to checkpoints."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import yaml
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from ctma.checkpoints import (
    Header,
    find_checkpoint,
    load_model,
    load_weights,
    read_header,
    read_original,
    save_model,
)
from ctma.data.readers import Pair, data_fingerprint, find_pairs
from ctma.devices import PRECISIONS, fast_precision
from ctma.errors import (
    CheckpointError,
    DataError,
    OutputError,
    SettingError,
    UnknownNameError,
    first_line,
)
from ctma.evaluation.evaluate import IMAGE_BANDS
from ctma.evaluation.metrics import Scores
from ctma.evaluation.protocols import unit_range
from ctma.files import file_fingerprint, sole_run, whole_file
from ctma.models import ChangeNetwork, create_model
from ctma.models.blocks import channels_last
from ctma.models.growth import grow
from ctma.training.module import ChangeModule, PairsModule
from ctma.training.recipes import DataSettings, Recipe, check_recipe, load_recipe

ACCELERATORS = ("auto", "cpu", "gpu", "mps")
BEST = "best.safetensors"
LATEST = "latest.ckpt"
LATEST_WEIGHTS = "latest.safetensors"
RECIPE = "recipe.yaml"

FREE = {"name", "data.workers", "trainer.epochs", "trainer.patience", "trainer.precision"}
"""What a resumed training may change: it has no part in the epochs that are done."""


@dataclass(frozen=True)
class TrainingResult:
    """What a training leaves behind.

    Attributes:
        best: The checkpoint with the highest validation F1.
        epoch: Its epoch, counted from 1.
        scores: Its validation scores.
    """

    best: Path
    epoch: int
    scores: Scores


def train(
    recipe: Recipe,
    data: str | Path,
    output: str | Path,
    *,
    devices: int = 1,
    accelerator: str = "auto",
    precision: str | None = None,
    resume: bool = False,
    init: str | Path | None = None,
    callbacks: tuple[Callback, ...] = (),
    on_note: Callable[[str], None] = lambda line: None,
) -> TrainingResult:
    """Trains by a recipe and keeps the best checkpoint by validation F1.

    The output folder gets ``best.safetensors``, ``latest.safetensors`` (the weights after
    the last epoch), ``latest.ckpt`` (for resuming), ``recipe.yaml`` and ``logs/`` with CSV
    and TensorBoard logs.

    Args:
        recipe: What to train, and how.
        data: A data folder with a training and a validation split.
        output: The run's folder.
        devices: How many processes share the work, one a device.
        accelerator: ``"auto"``, ``"cpu"`` or ``"gpu"``.
        precision: Overrides the recipe's; ``"auto"`` is bf16 where the hardware multiplies it,
            and what the run began in when it is resumed.
        resume: Continue from ``latest.ckpt`` where there is one.
        init: A checkpoint whose weights are where training starts, for fine-tuning; one of a
            smaller CTMA is grown.
        callbacks: Further callbacks for the trainer.
        on_note: Called with a line on what was found in the data, and on what ``init`` knows
            and the recipe does not.

    Raises:
        CheckpointError: If the weights of ``init`` do not fit the recipe's network.
        DataError: If the data is not there or not whole.
        SettingError: If the network cannot be built or the device is not there.
        OutputError: If the folder cannot be written, holds another training, or one is at work
            there.
    """
    output = Path(output)
    kept = output / RECIPE if resume else None
    recipe = _checked(recipe, accelerator, precision, kept)
    training, validation = _find_data(Path(data), recipe.data)
    drawn = sum(map(len, training))
    if devices > min(drawn, len(validation)):
        raise SettingError(f"{devices} devices, but only {len(validation)} validation pairs")
    latest = _start(output, recipe, resume, init)

    seed_everything(recipe.seed)
    arguments = {key: value for key, value in recipe.arguments.items() if key != "pretrained"}
    initial: dict[str, str] = {}
    # Weights that are given replace those of ImageNet.
    at_start = recipe.arguments if latest is None and init is None else arguments
    network = channels_last(create_model(recipe.network, **at_start))
    epoch = 0 if latest is None else _check_latest(latest, network)
    pairs = PairsModule(training, validation, recipe.data, recipe.seed, epoch)
    if latest is None and init is not None:
        initial = _load_initial(network, find_checkpoint(init), recipe, pairs, on_note)
    header = Header(
        network=recipe.network,
        arguments=arguments,
        ground_sample_distance=recipe.data.ground_sample_distance,
        initial_weights=initial,
        recipe=recipe.model_dump(mode="json"),
        training_data={"name": _data_name(Path(data), recipe), "pairs": drawn},
    )
    keeper = CheckpointKeeper(output, header)
    trainer = create_trainer(
        recipe,
        output,
        [keeper, *callbacks],
        devices=devices,
        accelerator=accelerator,
        log_interval=_log_interval(recipe, drawn),
    )
    on_note(f"{pairs.training.note}; {pairs.validation.note}")
    with sole_run(output) if _first_process() else nullcontext():
        if _first_process():
            _keep_recipe(output, recipe)
            header.training_data["fingerprint"] = data_fingerprint([*chain(*training)])
            keeper.validation_data = data_fingerprint(validation)
        trainer.fit(
            ChangeModule(network, recipe),
            datamodule=pairs,
            ckpt_path=latest,
            weights_only=True,
        )
    return keeper.result()


class CheckpointKeeper(Checkpoint):
    """Writes ``latest.*`` after every epoch and ``best.safetensors`` when F1 rises.

    As one of Lightning's checkpoint callbacks it runs after all others, so that their
    states, early stopping's among them, are kept as they are after the epoch.

    Args:
        output: The run's folder.
        header: What every checkpoint says of itself; epoch and scores are added.
    """

    validation_data = ""

    def __init__(self, output: Path, header: Header):
        self.output = output
        self.header = header
        self.best_epoch = 0
        self.best_counts: dict[str, int] = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keeps what this epoch brought."""
        assert isinstance(pl_module, ChangeModule)
        scores = pl_module.validation_scores
        assert scores is not None
        epoch = trainer.current_epoch + 1
        files = [LATEST_WEIGHTS]
        if not self.best_epoch or scores.f1 > Scores(**self.best_counts).f1:
            self.best_epoch = epoch
            self.best_counts = asdict(scores)
            files.append(BEST)
        if trainer.is_global_zero:
            header = self._header(pl_module, epoch, scores)
            for name in files:
                save_model(self.output / name, pl_module.kept, header)
        self._save_latest(trainer)

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs to know of the best epoch, and of what came before it."""
        return {
            "best_epoch": self.best_epoch,
            "best_counts": self.best_counts,
            "initial_weights": self.header.initial_weights,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up where a former process stopped."""
        self.best_epoch = state_dict["best_epoch"]
        self.best_counts = state_dict["best_counts"]
        initial = {"initial_weights": state_dict.get("initial_weights", {})}
        self.header = self.header.model_copy(update=initial)

    def result(self) -> TrainingResult:
        """The best epoch so far."""
        return TrainingResult(self.output / BEST, self.best_epoch, Scores(**self.best_counts))

    def _header(self, module: ChangeModule, epoch: int, scores: Scores) -> Header:
        record = {
            "split": module.recipe.data.validation_split,
            "protocol": "crops",
            "threshold": module.validation_threshold,
            "arithmetic": module.trainer.precision,
            "data": self.validation_data,
            **scores.as_dict(),
        }
        return self.header.model_copy(update={"epoch": epoch, "scores": [record]})

    def _save_latest(self, trainer: pl.Trainer) -> None:
        """Every process takes part in the saving; the first one writes."""
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.output / LATEST)
            return
        with whole_file(self.output / LATEST) as part:
            trainer.save_checkpoint(part)


class ProgressBar(RichProgressBar):
    """Lightning's progress bar with the loss and the validation F1, and no more."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """The metrics shown."""
        metrics = super().get_metrics(trainer, pl_module)
        shown = {"train_loss_step": "loss", "val_f1": "val F1"}
        return {label: metrics[name] for name, label in shown.items() if name in metrics}


def seed_everything(seed: int) -> None:
    """Seeds the random numbers of all libraries, in loader processes too."""
    pl.seed_everything(seed, workers=True, verbose=False)


def create_trainer(
    recipe: Recipe,
    output: Path,
    callbacks: list[Callback],
    *,
    devices: int = 1,
    accelerator: str = "auto",
    logs: bool = True,
    tensorboard: bool = True,
    log_interval: int = 10,
) -> pl.Trainer:
    """Lightning's trainer, set up for a recipe.

    Args:
        recipe: Its trainer part is used.
        output: Gets ``logs/``.
        callbacks: What keeps the checkpoints, and more.
        devices: How many processes share the work.
        accelerator: ``"auto"``, ``"cpu"`` or ``"gpu"``.
        logs: Whether to write CSV logs.
        tensorboard: Whether to write TensorBoard logs as well.
        log_interval: Steps between two lines.

    Raises:
        SettingError: If the device is not there.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # Lightning's own use of torch; nothing a user could mend.
    warnings.filterwarnings("ignore", message=r".*treespec, LeafSpec")
    settings = recipe.trainer
    if settings.patience is not None:
        callbacks.append(EarlyStopping("val_f1", mode="max", patience=settings.patience))
    try:
        return pl.Trainer(
            accelerator=accelerator,
            devices=devices,
            strategy="ddp" if devices > 1 else "auto",
            precision=settings.precision,
            max_epochs=settings.epochs,
            accumulate_grad_batches=settings.accumulate,
            gradient_clip_val=settings.clip,
            callbacks=[ProgressBar(leave=True), *callbacks],
            logger=_loggers(output, tensorboard) if logs else False,
            log_every_n_steps=log_interval,
            enable_checkpointing=True,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
        )
    except MisconfigurationException as error:
        raise SettingError(f"{devices} devices on {accelerator}: {first_line(error)}") from error


def _find_data(root: Path, settings: DataSettings) -> tuple[list[list[Pair]], list[Pair]]:
    """The training pairs of each source, and the validation pairs of the first."""
    training = []
    for source in settings.sources:
        folder = root / source.folder
        pairs = find_pairs(folder, settings.training_split, subset=settings.subset)
        if source.exclude is not None:
            pairs = [pair for pair in pairs if not fnmatch(pair.name, source.exclude)]
        if not pairs:
            raise DataError(f"{folder}: every training pair is left out by {source.exclude!r}")
        training.append(pairs)
    first = root / settings.sources[0].folder
    return training, find_pairs(first, settings.validation_split, subset=settings.subset)


def _log_interval(recipe: Recipe, pairs: int) -> int:
    """Ten steps, or an epoch where it has fewer."""
    return max(1, min(10, pairs * recipe.data.repeats // recipe.data.batch_size))


def _loggers(output: Path, tensorboard: bool) -> list[Logger]:
    tables = CSVLogger(output, name="logs")
    if not tensorboard:
        return [tables]
    return [tables, TensorBoardLogger(output, name="logs", version=tables.version)]


def _start(output: Path, recipe: Recipe, resume: bool, init: str | Path | None) -> Path | None:
    """The checkpoint to continue from, if any."""
    latest = output / LATEST
    if latest.exists() and resume:
        _check_same_recipe(output / RECIPE, recipe)
        if init is not None:
            _check_same_initial(output, find_checkpoint(init))
        return latest
    if latest.exists() and _first_process():
        raise OutputError(f"{output}: holds a training already; add --resume or name a new folder")
    return None


def _data_name(data: Path, recipe: Recipe) -> str:
    folders = [(data / source.folder).resolve().name for source in recipe.data.sources]
    return " + ".join(dict.fromkeys(folders))


def _load_initial(
    network: ChangeNetwork,
    path: Path,
    recipe: Recipe,
    pairs: PairsModule,
    on_note: Callable[[str], None],
) -> dict[str, str]:
    """Gives a network the weights of a checkpoint; returns what the header says of it."""
    initial = load_model(path)
    if _shapes(initial) == _shapes(network):
        load_weights(network, initial.state_dict(), path)
    else:
        _grow(initial, network, path, recipe, pairs)
        on_note(
            f"{path.name}: a {initial.header.network}, grown into a larger {recipe.network} that "
            "begins as the same function"
        )
    known = initial.header.ground_sample_distance
    if known is not None and recipe.data.ground_sample_distance is None:
        on_note(
            f"{path.name} was trained at {known:g} m a pixel; say what yours are, so that the new "
            f"checkpoint knows it: --set data.ground_sample_distance={known:g}"
        )
    return {"name": path.name, "fingerprint": file_fingerprint(path)}


def _grow(
    initial: ChangeNetwork, network: ChangeNetwork, path: Path, recipe: Recipe, pairs: PairsModule
) -> None:
    """Starts a network from a smaller one, with the first batch as the images to come."""
    batch = pairs.first_batch()
    try:
        grow(initial, network, unit_range(batch.before), unit_range(batch.after))
    except ValueError as error:
        raise CheckpointError(
            f"{path}: this {initial.header.network} cannot start the recipe's {recipe.network} "
            f"({error}); --init takes the same network, or a smaller one of the same "
            "model.fusion, model.video_len and kind of model.backbone"
        ) from error


def _shapes(network: ChangeNetwork) -> dict[str, Any]:
    return {name: weight.shape for name, weight in network.state_dict().items()}


def _keep_recipe(output: Path, recipe: Recipe) -> None:
    with whole_file(output / RECIPE) as part:
        part.write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))


def _check_same_recipe(path: Path, recipe: Recipe) -> None:
    """Refuses to continue by other settings than the training was begun with."""
    if not path.exists():
        return
    former = load_recipe(str(path))
    # One cycle has as many steps as the training was begun with.
    free = FREE - {"trainer.epochs"} if recipe.schedule.name == "one-cycle" else FREE
    contents = (former.model_dump(mode="json"), recipe.model_dump(mode="json"))
    for name, found, wanted in _differences(*contents):
        if name not in free:
            raise SettingError(
                f"{path.parent}: was trained with {name} {found}, not {wanted}; name a new folder "
                f"(--init {path.parent / LATEST_WEIGHTS} starts from its weights)"
            )


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
        raise CheckpointError(f"{init}: no such checkpoint; a training resumes without --init too")
    former = read_header(weights).initial_weights
    if former.get("fingerprint") != file_fingerprint(init):
        raise SettingError(
            f"{output}: began from {former.get('name', 'no checkpoint')}, not from {init} as it "
            "is now; name a new folder, or resume without --init"
        )


def _check_latest(path: Path, network: ChangeNetwork) -> int:
    """Refuses to continue from what is not this network's training state; epochs that are done."""
    content = read_original(path)
    prefix = "network."
    weights = {
        name.removeprefix(prefix): weight
        for name, weight in content["state_dict"].items()
        if name.startswith(prefix)
    }
    load_weights(network, weights, path)
    if "pytorch-lightning_version" not in content:
        raise CheckpointError(f"{path}: holds weights but no training state; use --init")
    return int(content["epoch"]) + 1


def _checked(recipe: Recipe, accelerator: str, precision: str | None, kept: Path | None) -> Recipe:
    """The recipe with the precision asked for, if it can be trained here."""
    if accelerator not in ACCELERATORS:
        raise UnknownNameError("accelerator", accelerator, ACCELERATORS)
    if recipe.arguments.get("bands", IMAGE_BANDS) != IMAGE_BANDS:
        raise SettingError(f"model.bands: images on disk have {IMAGE_BANDS} bands")
    if precision is None:
        return recipe
    content = recipe.model_dump(mode="json")
    content["trainer"]["precision"] = _precision(precision, accelerator, kept)
    return check_recipe(content)


def _precision(asked: str, accelerator: str, kept: Path | None) -> str:
    """What is asked for; ``"auto"`` is that of the run's kept recipe, else the fastest here."""
    known = (*PRECISIONS, "auto")
    if asked not in known:
        raise UnknownNameError("precision", asked, known)
    if asked != "auto":
        return asked
    if kept is not None and kept.exists():
        return load_recipe(str(kept)).trainer.precision
    return fast_precision(accelerator)


def _first_process() -> bool:
    return int(os.environ.get("LOCAL_RANK", 0)) == 0 and int(os.environ.get("NODE_RANK", 0)) == 0

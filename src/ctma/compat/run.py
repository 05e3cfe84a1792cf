"""Runs released configurations with ctma; checkpoints are torch files in the released form."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

from ctma.checkpoints.released import read_released, sort_optimizer, write_released
from ctma.checkpoints.store import load_model
from ctma.compat.configuration import ReleasedConfig, find_data, to_recipe
from ctma.devices import find_device
from ctma.errors import CheckpointError, warn
from ctma.evaluation.report import EvaluationResult, evaluate
from ctma.evaluation.scoring import Scoring
from ctma.inference.predictor import Predictor
from ctma.models.base import ChangeNetwork
from ctma.training.initial import create_network
from ctma.training.loaders import PairsModule, find_training_pairs
from ctma.training.logs import Lines, Logs
from ctma.training.module import ChangeModule, Start
from ctma.training.run import fit, seed_everything
from ctma.training.trainer import Hardware
from ctma.types import Progress, Say, ignore


class ReleasedResult(NamedTuple):
    """The result of a training: its best checkpoint.

    Attributes:
        best: The checkpoint with the highest validation F1.
        f1: The validation F1 of the best checkpoint.
        epoch: The epoch of the best checkpoint, counted from 0.
    """

    best: Path
    f1: float
    epoch: int


def train_released(config: ReleasedConfig, on_note: Say = ignore) -> ReleasedResult:
    """Trains by a released configuration.

    Args:
        config: The configuration.
        on_note: Called with a line of text after each epoch where no progress bar is visible.

    Raises:
        DataError: If the data are missing.
        CheckpointError: If ``resume`` cannot be read.
        OutputError: If the experiment's folder cannot be written.
    """
    recipe = to_recipe(config)
    hardware = Hardware(config.device)
    hardware.check()
    training_pairs = find_training_pairs(find_data(config), recipe.data)
    resumed = Path(config.resume) if config.resume else None
    if resumed is not None and not resumed.exists():
        warn(f"`resume` {resumed}: does not exist yet, starting a new training")
        resumed = None

    seed_everything(recipe.seed)
    if resumed is not None:
        network = load_model(resumed, config.arguments).train()
        start, best = _resume(read_released(resumed), network, config)
    else:
        network = create_network(recipe, pretrained=True)
        start, best = Start(), (0.0, 0)
    keeper = ReleasedKeeper(config, best)
    module = ChangeModule(network, recipe, start)
    pairs = PairsModule(training_pairs, recipe.data, recipe.seed, start.epoch)
    logs = Logs(not config.log_off, config.tb_on, config.tb_intvl, start.epoch)
    fit(module, pairs, config.exp_dir, [keeper, Lines(on_note)], hardware, logs, alone=False)
    return ReleasedResult(config.output("model_best"), *keeper.best)


def evaluate_released(config: ReleasedConfig, on_progress: Progress = ignore) -> EvaluationResult:
    """Scores ``resume`` on ``subset`` with windows of 256 at stride 64, as released.

    Raises:
        CheckpointError: If the checkpoint does not exist or cannot be read.
        DataError: If the data are missing.
    """
    if not config.resume:
        raise CheckpointError("eval scores a checkpoint: name it as `resume`")
    masks = Path(config.out_dir) if config.out_dir else config.exp_dir / "out"
    network = load_model(config.resume, config.arguments).to(find_device(config.device))
    return evaluate(
        Predictor(network, source=Path(config.resume)),
        find_data(config),
        config.subset,
        Scoring(protocol="sliding", workers=config.num_workers),
        save_masks=masks if config.save_on else None,
        output=config.scores,
        overwrite=True,
        on_progress=on_progress,
    )


class ReleasedKeeper(Checkpoint):
    """Writes ``checkpoint_latest`` and ``model_best`` as the released implementation does.

    Args:
        config: The configuration, with the folder and the interval of the checkpoints.
        best: Best validation F1 so far and its epoch, counted from 0.
    """

    def __init__(self, config: ReleasedConfig, best: tuple[float, int]):
        self.config = config
        self.best = best

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves the checkpoints of this epoch."""
        assert isinstance(pl_module, ChangeModule)
        scores = pl_module.validation_scores
        assert scores is not None
        epoch = trainer.current_epoch
        if scores.f1 > self.best[0] or not self.config.output("model_best").exists():
            self.best = (scores.f1, epoch)
            self._write("model_best", trainer, pl_module)
        last = epoch + 1 == self.config.num_epochs
        if last or (epoch + 1) % self.config.track_intvl == 0:
            self._write("checkpoint_latest", trainer, pl_module)

    def _write(self, name: str, trainer: pl.Trainer, module: ChangeModule) -> None:
        optimizer = trainer.optimizers[0].state_dict() if self.config.save_optim else {}
        write_released(
            self.config.output(name),
            module.kept,
            epoch=trainer.current_epoch,
            optimizer=optimizer,
            max_acc=self.best,
        )


def _resume(
    content: dict[str, Any], network: ChangeNetwork, config: ReleasedConfig
) -> tuple[Start, tuple[float, int]]:
    """The start and the best F1 that a torch file holds; its ``epoch`` counts from 0."""
    if config.anew:
        return Start(), (0.0, 0)
    optimizer = sort_optimizer(content, network) if config.load_optim else None
    best, epoch = content.get("max_acc", (0.0, 0))
    return Start(int(content.get("epoch", -1)) + 1, optimizer), (float(best), int(epoch))

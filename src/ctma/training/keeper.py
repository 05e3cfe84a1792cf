"""Saves the checkpoints of a training after each epoch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import yaml
from lightning.pytorch.callbacks import Checkpoint

from ctma.checkpoints.header import RUN_BEST, read_header
from ctma.checkpoints.store import save_model
from ctma.data.pairs import find_coding
from ctma.data.readers import data_fingerprint
from ctma.errors import CheckpointError, SettingError, warn
from ctma.evaluation.metrics import Scores
from ctma.evaluation.records import ScoreRecord
from ctma.evaluation.scoring import Scoring, tell_how
from ctma.files import whole_file
from ctma.inference.predictor import Predictor
from ctma.inference.running import Running
from ctma.training.loaders import TrainingPairs
from ctma.training.module import ChangeModule
from ctma.training.settings import Recipe

LATEST = "latest.ckpt"
LATEST_WEIGHTS = "latest.safetensors"
RECIPE = "recipe.yaml"
FIRST = ".first-epoch"
"""Stands in the folder until the first training state does: weights beside it are unfinished."""


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training: its best checkpoint.

    Attributes:
        best: The checkpoint with the highest validation F1.
        epoch: The epoch of the best checkpoint, counted from 1.
        scores: The validation scores of the best checkpoint.
    """

    best: Path
    epoch: int
    scores: Scores


class CheckpointKeeper(Checkpoint):
    """Writes ``latest.*`` after every epoch and ``best.safetensors`` when F1 rises.

    Lightning runs checkpoint callbacks last. The checkpoint therefore holds the state of all other
    callbacks, such as early stopping, after the epoch.

    Args:
        output: The run's folder.
        recipe: The recipe.
        pairs: The training and validation pairs.
        initial: Name and fingerprint of the checkpoint where training begins, if any.
        teachers: The fingerprint of each teacher, by name or path.
        computing: Versions, kind of device and engine, see ``ctma.devices.describe_computing``.
    """

    def __init__(
        self,
        output: Path,
        recipe: Recipe,
        pairs: TrainingPairs,
        initial: dict[str, str],
        teachers: dict[str, str],
        computing: dict[str, str],
    ):
        self.output = output
        self.recipe = recipe
        self.pairs = pairs
        self.computing = computing
        self.provenance: dict[str, Any] = {
            "recipe": recipe.model_dump(mode="json"),
            "initial_weights": initial,
            "teachers": teachers,
        }
        self.validation_data = ""
        self.coding = find_coding(pairs.validation)
        self.best_epoch = 0
        self.best_counts: dict[str, int] = {}

    def begin(self) -> None:
        """Saves the recipe and computes the fingerprints of the data, in the first process only.

        Raises:
            SettingError: If the folder holds a training on other data.
        """
        self.provenance["training_data"] = {
            "name": self.pairs.name,
            "pairs": self.pairs.count,
            "fingerprint": self.pairs.fingerprint(),
        }
        self.validation_data = data_fingerprint(self.pairs.validation)
        self._check_same_data()
        if not (self.output / LATEST).exists():
            with whole_file(self.output / FIRST):
                pass
        with whole_file(self.output / RECIPE) as part:
            part.write_text(yaml.safe_dump(self.provenance["recipe"], sort_keys=False))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves the checkpoints of this epoch."""
        assert isinstance(pl_module, ChangeModule)
        scores = pl_module.validation_scores
        assert scores is not None
        epoch = trainer.current_epoch + 1
        files = [LATEST_WEIGHTS]
        changed = scores.true_positive + scores.false_negative
        if not self.best_epoch and not changed and trainer.is_global_zero:
            warn(
                "no validation pair shows change, so F1 is 0 and cannot choose the best epoch; "
                f"{RUN_BEST} is that of epoch {epoch}"
            )
        if not self.best_epoch or scores.f1 > Scores(**self.best_counts).f1:
            self.best_epoch = epoch
            self.best_counts = asdict(scores)
            files.append(RUN_BEST)
        if trainer.is_global_zero:
            record = self._record(pl_module, scores)
            header = self.provenance | {"epoch": epoch, "scores": [record]}
            for name in files:
                save_model(self.output / name, pl_module.kept, **header)
        self._save_latest(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The state for resuming: best epoch and its counts, initial weights, and versions."""
        return {
            "best_epoch": self.best_epoch,
            "best_counts": self.best_counts,
            "initial_weights": self.provenance["initial_weights"],
            "computing": self.computing,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the state that an earlier process saved.

        Raises:
            CheckpointError: If the best checkpoint so far is gone.
        """
        best = self.output / RUN_BEST
        if state_dict["best_epoch"] and not best.is_file():
            raise CheckpointError(
                f"{best}: is gone, which epoch {state_dict['best_epoch']} left as the best so far; "
                "put the file back, or begin a training in a new folder"
            )
        self.best_epoch = state_dict["best_epoch"]
        self.best_counts = state_dict["best_counts"]
        self.provenance["initial_weights"] = state_dict.get("initial_weights", {})

    def result(self) -> TrainingResult:
        """The best epoch so far."""
        return TrainingResult(self.output / RUN_BEST, self.best_epoch, Scores(**self.best_counts))

    def _check_same_data(self) -> None:
        weights = self.output / LATEST_WEIGHTS
        if not weights.exists():
            return
        header = read_header(weights)
        data = header.training_data, {"fingerprint": header.scores[0].get("data")}
        now = self.provenance["training_data"], {"fingerprint": self.validation_data}
        for split, old_data, new_data in zip(("training", "validation"), data, now, strict=True):
            if old_data.get("fingerprint") != new_data["fingerprint"]:
                name = header.training_data.get("name")
                raise SettingError(
                    f"{self.output}: was trained on {name}, whose {split} pairs were others than "
                    f"those of {self.pairs.name} are now; give the same data, or name a new folder"
                )

    def _record(self, module: ChangeModule, scores: Scores) -> dict[str, Any]:
        running = Running(engine="eager", precision=self.recipe.trainer.precision)
        how = tell_how(
            Predictor(module.kept, running),
            self.pairs.validation,
            Scoring(threshold=module.validation_threshold),
            split=self.recipe.data.validation_split,
            data_name=self.pairs.validation_name,
            data=self.validation_data,
            coding=self.coding,
        )
        return ScoreRecord(how, scores).as_dict()

    def _save_latest(self, trainer: pl.Trainer) -> None:
        """Saves ``latest.ckpt``: every process takes part, and the first process writes."""
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.output / LATEST)
            return
        with whole_file(self.output / LATEST) as part:
            trainer.save_checkpoint(part)
        (self.output / FIRST).unlink(missing_ok=True)

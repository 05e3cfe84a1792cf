"""Runs the released implementation's configuration files with our engine.

The keys mean what they mean there; checkpoints are torch files of the same form, at the
same places.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError

from ctma.checkpoints import load_model, read_original, write_original
from ctma.data.readers import find_pairs
from ctma.errors import CheckpointError, DataError, SettingError
from ctma.evaluation.evaluate import IMAGE_BANDS
from ctma.evaluation.report import Report, evaluate_checkpoint
from ctma.models import create_model
from ctma.models.blocks import channels_last
from ctma.training.engine import create_trainer, seed_everything
from ctma.training.module import ChangeModule, PairsModule, Start
from ctma.training.recipes import Recipe, check_recipe, read_yaml, setting_error


class _Keys(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class P2VModel(_Keys):
    """Arguments of the network: input bands and video length."""

    in_ch: int = Field(3, ge=1)
    video_len: int = Field(8, ge=2)


class Scheduler(_Keys):
    """A learning rate schedule; the recipe uses one, StepLR."""

    name: Literal["StepLR"] = "StepLR"
    step_size: int = Field(10, ge=1)
    gamma: float = Field(0.1, gt=0)


class OriginalConfig(_Keys):
    """The released configuration keys.

    Attributes:
        dataset: ``SVCD``, ``LEVIR`` or ``WHU``, looked for in ``$CTMA_DATA``, else at home.
        num_workers: Loader processes.
        repeats: How often the train list is repeated in an epoch.
        subset: The split that ``eval`` scores.
        crop_size: Side of the training patches.
        optimizer: ``Adam``.
        lr: Learning rate.
        weight_decay: L2 weight.
        load_optim: Take the optimizer's state from ``resume``.
        save_optim: Keep the optimizer's state in checkpoints.
        sched_on: Whether the schedule is used.
        schedulers: At most one.
        batch_size: Pairs a step.
        num_epochs: Epochs.
        resume: A torch file to continue from or to score.
        anew: Take only the weights from ``resume``, and start at the first epoch.
        device: ``auto``, ``cpu`` or ``cuda``.
        exp_dir: The experiment's folder.
        tag: Names the outputs; by default the last word of the configuration's name.
        suffix: Added to the outputs' names; by default the tag.
        debug_on: Show the traceback of an error.
        inherit_off: Do not read the base configuration.
        log_off: Write no logs.
        track_intvl: Epochs between two writings of the latest checkpoint.
        tb_on: Write TensorBoard logs.
        tb_intvl: Steps between two lines of the logs.
        suffix_off: Leave the suffix off the outputs' names.
        save_on: Write masks in ``eval``.
        out_dir: Where masks go; ``exp_dir/out`` by default.
        criterion: ``WBCE``, weighted binary cross-entropy.
        weights: Weights of stillness and change.
        model: ``P2V``, the released name of CTMA.
        out_type: ``logits``.
        p2v_model: Arguments of the network.
        cmb_coeffs: Weights of the unmasked and the masked branch.
        pretrained: ImageNet weights for the backbone: true, false or a file. Ours; the
            released implementation always downloads them.
    """

    dataset: Literal["SVCD", "LEVIR", "WHU"]
    num_workers: int = Field(4, ge=0)
    repeats: int = Field(1, ge=1)
    subset: str = "val"
    crop_size: int = Field(256, ge=64)
    optimizer: Literal["Adam"] = "Adam"
    lr: float = Field(4e-4, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    load_optim: bool = True
    save_optim: bool = True
    sched_on: bool = True
    schedulers: list[Scheduler] = Field(default_factory=list, max_length=1)
    batch_size: int = Field(8, ge=1)
    num_epochs: int = Field(30, ge=1)
    resume: str = ""
    anew: bool = False
    device: str = "auto"
    exp_dir: Path = Path("../exp")
    tag: str = ""
    suffix: str = ""
    debug_on: bool = False
    inherit_off: bool = False
    log_off: bool = False
    track_intvl: int = Field(1, ge=1)
    tb_on: bool = True
    tb_intvl: int = Field(100, ge=1)
    suffix_off: bool = False
    save_on: bool = False
    out_dir: str = ""
    criterion: Literal["WBCE"] = "WBCE"
    weights: tuple[PositiveFloat, PositiveFloat] = (0.5, 0.5)
    model: Literal["P2V"] = "P2V"
    out_type: Literal["logits"] = "logits"
    p2v_model: P2VModel = P2VModel()
    cmb_coeffs: tuple[float, float] = (0.5, 0.5)
    pretrained: bool | str = True

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of our network."""
        return {
            "bands": self.p2v_model.in_ch,
            "video_len": self.p2v_model.video_len,
            "fusion": self.cmb_coeffs[0],
        }

    def output(self, name: str) -> Path:
        """Where a checkpoint goes, such as ``weights/model_best_p2v.pth``."""
        suffix = self.suffix or self.tag
        ending = f"_{suffix}" if suffix and not self.suffix_off else ""
        return self.exp_dir / "weights" / f"{name}{ending}.pth"


class OriginalResult(NamedTuple):
    """What a training leaves behind.

    Attributes:
        best: The checkpoint with the highest validation F1.
        f1: That F1.
        epoch: Its epoch, counted from 0.
    """

    best: Path
    f1: float
    epoch: int


def boolean_keys() -> set[str]:
    """Keys that switch something."""
    return {key for key, field in OriginalConfig.model_fields.items() if field.annotation is bool}


def load_config(path: str | Path, overrides: dict[str, Any] | None = None) -> OriginalConfig:
    """Reads a configuration over its base in the same folder, then applies overrides.

    Args:
        path: ``config_DATASET_TAG.yaml``; its base is ``config_DATASET.yaml``.
        overrides: Values by key.

    Raises:
        SettingError: If a file is missing or a value is of the wrong type.
        UnknownNameError: If there is no such key.
    """
    path = Path(path)
    overrides = overrides or {}
    if not path.is_file():
        raise SettingError(f"--exp_config {path}: no such file")
    stem, _, tag = path.stem.rpartition("_")
    own = read_yaml(path.read_text(errors="replace"), str(path))
    base = path.with_name(f"{stem}{path.suffix}")
    inherited: dict[str, Any] = {}
    if base.is_file() and not (own | overrides).get("inherit_off"):
        inherited = read_yaml(base.read_text(errors="replace"), str(base))
    content = {
        key: value for key, value in (inherited | own | overrides).items() if value is not None
    }
    content["tag"] = content.get("tag") or (tag if stem != "config" else "")
    try:
        config = OriginalConfig.model_validate(content)
    except ValidationError as error:
        raise setting_error(error, known=OriginalConfig.model_fields) from error
    if abs(sum(config.cmb_coeffs) - 1) > 1e-6:
        raise SettingError(f"cmb_coeffs: {config.cmb_coeffs} must sum to 1")
    return config


def train_original(
    config: OriginalConfig, on_warning: Callable[[str], None] = lambda line: None
) -> OriginalResult:
    """Trains by a released configuration.

    Args:
        config: The configuration.
        on_warning: Called with a line where something is not as asked.

    Raises:
        DataError: If the data is not there.
        CheckpointError: If ``resume`` cannot be read.
        OutputError: If the experiment's folder cannot be written.
    """
    recipe = to_recipe(config)
    if config.p2v_model.in_ch != IMAGE_BANDS:
        raise SettingError(f"p2v_model.in_ch: images on disk have {IMAGE_BANDS} bands")
    data = find_data(config)
    training = find_pairs(data, "train")
    validation = find_pairs(data, "val")
    resumed = Path(config.resume) if config.resume else None
    if resumed is not None and not resumed.exists():
        on_warning(f"--resume {resumed}: does not exist yet, starting a new training")
        resumed = None

    seed_everything(recipe.seed)
    if resumed is not None:
        network = load_model(resumed, **config.arguments).train()
        start, best = _resume(read_original(resumed), config)
    else:
        network = channels_last(create_model(recipe.network, **recipe.arguments))
        start, best = Start(), (0.0, 0)
    keeper = OriginalKeeper(config, best)
    trainer = create_trainer(
        recipe,
        config.exp_dir,
        [keeper],
        accelerator=_accelerator(config.device),
        logs=not config.log_off,
        tensorboard=config.tb_on,
        log_interval=config.tb_intvl,
    )
    trainer.fit(
        ChangeModule(network, recipe, start),
        datamodule=PairsModule([training], validation, recipe.data, recipe.seed, start.epoch),
    )
    return OriginalResult(config.output("model_best"), *keeper.best)


def evaluate_original(
    config: OriginalConfig, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> Report:
    """Scores ``resume`` on ``subset`` with windows of 256 at stride 64, as released.

    Raises:
        CheckpointError: If there is no such checkpoint, or it cannot be read.
        DataError: If the data is not there.
    """
    if not config.resume:
        raise CheckpointError("eval scores a checkpoint: add --resume FILE")
    masks = Path(config.out_dir) if config.out_dir else config.exp_dir / "out"
    return evaluate_checkpoint(
        config.resume,
        find_data(config),
        config.subset,
        protocol_name="sliding",
        masks=masks if config.save_on else None,
        output=config.exp_dir / f"scores-{config.subset}-sliding.json",
        device=config.device,
        workers=config.num_workers,
        on_progress=on_progress,
        **config.arguments,
    )


def to_recipe(config: OriginalConfig) -> Recipe:
    """A released configuration as a recipe of ours.

    Raises:
        SettingError: If a value has no counterpart.
    """
    schedule: dict[str, Any] = {"name": "constant"}
    if config.sched_on and config.schedulers:
        scheduler = config.schedulers[0]
        schedule = {"name": "step", "step_size": scheduler.step_size, "gamma": scheduler.gamma}
    return check_recipe(
        {
            "name": f"original/{config.dataset}",
            "model": {"name": "ctma", "pretrained": config.pretrained, **config.arguments},
            "data": {
                "repeats": config.repeats,
                "batch_size": config.batch_size,
                "crop_size": config.crop_size,
                "workers": config.num_workers,
            },
            "optimizer": {"lr": config.lr, "weight_decay": config.weight_decay},
            "schedule": schedule,
            "loss": {"class_weights": config.weights},
            "trainer": {"epochs": config.num_epochs},
        }
    )


def find_data(config: OriginalConfig) -> Path:
    """The data folder of a configuration: in ``$CTMA_DATA``, else at home.

    Raises:
        DataError: If there is none.
    """
    home = os.environ.get("CTMA_DATA")
    folder = (Path(home) if home else Path.home()) / config.dataset
    if not folder.is_dir():
        raise DataError(f"{folder}: no such data folder; set CTMA_DATA to the folder above it")
    return folder


class OriginalKeeper(Checkpoint):
    """Writes ``checkpoint_latest`` and ``model_best`` as the released implementation does.

    Args:
        config: Says where to and how often.
        best: Best validation F1 so far and its epoch, counted from 0.
    """

    def __init__(self, config: OriginalConfig, best: tuple[float, int]):
        self.config = config
        self.best = best

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keeps what this epoch brought."""
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
        write_original(
            self.config.output(name),
            module.kept,
            epoch=trainer.current_epoch,
            optimizer=optimizer,
            max_acc=self.best,
        )


def _resume(content: dict[str, Any], config: OriginalConfig) -> tuple[Start, tuple[float, int]]:
    """Where a torch file says that training stopped: its ``epoch`` counts from 0."""
    if config.anew:
        return Start(), (0.0, 0)
    optimizer = content.get("optimizer") if config.load_optim else None
    best, epoch = content.get("max_acc", (0.0, 0))
    return Start(int(content.get("epoch", -1)) + 1, optimizer or None), (float(best), int(epoch))


def _accelerator(device: str) -> str:
    kind = device.split(":")[0]
    if kind == "auto":
        return "auto"
    if kind == "cuda" and not torch.cuda.is_available():
        raise SettingError(f"device: {device!r} is not here; use auto or cpu")
    if kind not in {"cuda", "cpu", "mps"}:
        raise SettingError(f"device: {device!r} is none of auto, cpu, cuda")
    return "gpu" if kind == "cuda" else kind

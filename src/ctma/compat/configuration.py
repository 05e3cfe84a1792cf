"""The released implementation's configuration files; the keys mean what they mean there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError

from ctma.errors import DataError, SettingError
from ctma.training.recipes import check_recipe, read_yaml, setting_error
from ctma.training.settings import Recipe


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


class ReleasedConfig(_Keys):
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


def boolean_keys() -> set[str]:
    """Keys that switch something."""
    return {key for key, field in ReleasedConfig.model_fields.items() if field.annotation is bool}


def load_config(path: str | Path, overrides: dict[str, Any] | None = None) -> ReleasedConfig:
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
        raise SettingError(f"`exp_config` {path}: no such file")
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
        config = ReleasedConfig.model_validate(content)
    except ValidationError as error:
        raise setting_error(error, known=ReleasedConfig.model_fields) from error
    if abs(sum(config.cmb_coeffs) - 1) > 1e-6:
        raise SettingError(f"cmb_coeffs: {config.cmb_coeffs} must sum to 1")
    return config


def to_recipe(config: ReleasedConfig) -> Recipe:
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


def find_data(config: ReleasedConfig) -> Path:
    """The data folder of a configuration: in ``$CTMA_DATA``, else at home.

    Raises:
        DataError: If there is none.
    """
    home = os.environ.get("CTMA_DATA")
    folder = (Path(home) if home else Path.home()) / config.dataset
    if not folder.is_dir():
        raise DataError(f"{folder}: no such data folder; set CTMA_DATA to the folder above it")
    return folder

"""Configuration files of the released implementation; the keys keep their meaning."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveFloat, ValidationError

from ctma.compat.methods import (
    METHODS,
    BITModel,
    CDPModel,
    DSAMNetModel,
    Keys,
    P2VModel,
    STANetModel,
)
from ctma.errors import DataError, SettingError, UnknownNameError
from ctma.models.registry import model_arguments
from ctma.training.recipes import check_recipe, read_yaml, setting_error
from ctma.training.settings import Recipe


class StepLR(Keys):
    """A learning rate that falls every few epochs."""

    name: Literal["StepLR"] = "StepLR"
    step_size: int = Field(10, ge=1)
    gamma: float = Field(0.1, gt=0)

    @property
    def schedule(self) -> dict[str, Any]:
        """The same as a recipe says it."""
        return {"name": "step", "step_size": self.step_size, "gamma": self.gamma}


class Plateau(Keys):
    """A learning rate that falls when the validation F1 no longer rises."""

    name: Literal["ReduceLROnPlateau"]
    mode: Literal["max"] = "max"
    factor: float = Field(0.1, gt=0)
    patience: int = Field(5, ge=0)

    @property
    def schedule(self) -> dict[str, Any]:
        """The same as a recipe says it."""
        return {"name": "plateau", "step_size": self.patience + 1, "gamma": self.factor}


IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""Mean and standard deviation of ImageNet's colours, on a scale from 0 to 255."""


class ReleasedConfig(Keys):
    """The released configuration keys.

    Attributes:
        dataset: ``SVCD``, ``LEVIR`` or ``WHU``: a folder in ``$CTMA_DATA``, else at home.
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
        schedulers: Learning rate schedules, at most one.
        batch_size: Pairs per step.
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
        criterion: The model's loss: ``WBCE`` (weighted binary cross-entropy), ``WNLL``, ``BC`` or
            ``WBCE+Dice``.
        weights: Weights of no change and change.
        model: One of ``METHODS``; ``P2V`` is the released name of CTMA.
        out_type: What the model returns: ``logits``, ``logits2`` or ``dist``.
        p2v_model: Arguments of CTMA.
        bit_model: Arguments of BIT.
        stanet_model: Arguments of STANet.
        dsamnet_model: Arguments of DSAMNet.
        cdp_model: Arguments of CDP.
        threshold: For STANet and DSAMNet: the distance from which a pixel is change.
        lambda_: ``lambda``, the weight of DSAMNet's auxiliary outputs.
        aux_critn: The loss of DSAMNet's auxiliary outputs.
        mu: ImageNet's mean, on a scale from 0 to 255, if the model needs scaled inputs.
        sigma: ImageNet's standard deviation, on the same scale.
        mix_coeffs: For IFN: 1, because all its outputs have equal weight.
        cmb_coeffs: For CTMA: weights of the unmasked and the masked branch. For IFN: 1.
        pretrained: ImageNet weights for the backbone: true, false or a file. The released
            implementation has no such key and always downloads the weights.
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
    schedulers: list[StepLR | Plateau] = Field(default_factory=list, max_length=1)
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
    criterion: str = ""
    weights: tuple[PositiveFloat, PositiveFloat] = (0.5, 0.5)
    model: str = "P2V"
    out_type: str = ""
    p2v_model: P2VModel = P2VModel()
    bit_model: BITModel = BITModel()
    stanet_model: STANetModel = STANetModel()
    dsamnet_model: DSAMNetModel = DSAMNetModel()
    cdp_model: CDPModel = CDPModel()
    threshold: float = Field(1.0, gt=0)
    lambda_: float = Field(0.1, ge=0, alias="lambda")
    aux_critn: Literal["Dice"] = "Dice"
    mu: tuple[float, float, float] = IMAGENET[0]
    sigma: tuple[float, float, float] = IMAGENET[1]
    mix_coeffs: Literal[1] = 1
    cmb_coeffs: tuple[float, float] | Literal[1] = (0.5, 0.5)
    pretrained: bool | str = True

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the ctma network."""
        if self.model == "P2V":
            fusion = 1.0 if self.cmb_coeffs == 1 else self.cmb_coeffs[0]
            video = self.p2v_model
            return {"bands": video.in_ch, "video_len": video.video_len, "fusion": fusion}
        if self.model == "BIT":
            bit = self.bit_model
            return {"bands": bit.in_ch, "tokens": bit.token_len, "decoder_depth": bit.dec_depth}
        if self.model in ("STANet", "DSAMNet"):
            settings = self.stanet_model if self.model == "STANet" else self.dsamnet_model
            return {"bands": settings.in_ch, "width": settings.width, "margin": self.threshold}
        if self.model == "CDP":
            cdp = self.cdp_model
            values = {"bands": cdp.in_channels, "backbone": cdp.encoder_name, "normalised": False}
            return values if cdp.encoder_weights else values | {"pretrained": False}
        return {}

    @property
    def loss(self) -> dict[str, Any]:
        """The loss as in ctma's recipes."""
        losses: dict[str, dict[str, Any]] = {
            "WBCE": {"name": "bce", "class_weights": self.weights},
            "WNLL": {"name": "nll", "class_weights": self.weights},
            "BC": {"name": "contrastive", "margin": self.threshold, "auxiliary": self.lambda_},
            "WBCE+Dice": {"name": "deep"},
        }
        return losses[METHODS[self.model].criterion]

    def output(self, name: str) -> Path:
        """Where a checkpoint goes, such as ``weights/model_best_p2v.pth``."""
        return self.exp_dir / "weights" / f"{name}{self._ending}.pth"

    @property
    def scores(self) -> Path:
        """Where scores go, such as ``scores-test-sliding_p2v.json``."""
        return self.exp_dir / f"scores-{self.subset}-sliding{self._ending}.json"

    @property
    def _ending(self) -> str:
        """The ending that distinguishes the outputs of methods in the folder of an experiment."""
        suffix = self.suffix or self.tag
        return f"_{suffix}" if suffix and not self.suffix_off else ""


def boolean_keys() -> set[str]:
    """The keys whose value is true or false."""
    return {key for key, field in ReleasedConfig.model_fields.items() if field.annotation is bool}


def load_config(path: str | Path, overrides: dict[str, Any] | None = None) -> ReleasedConfig:
    """Reads a base configuration, then the configuration over it, then applies overrides.

    Args:
        path: ``config_DATASET_TAG.yaml``; its base is ``config_DATASET.yaml`` in the same folder.
        overrides: Values by key.

    Raises:
        SettingError: If a file is missing or a value is of the wrong type.
        UnknownNameError: If there is no such key.
    """
    path = Path(path)
    overrides = overrides or {}
    if not path.is_file():
        raise SettingError(f"`exp_config` {path}: no such file")
    settings = read_yaml(path.read_text(errors="replace"), str(path))
    base, tag = _find_base(path)
    inherited: dict[str, Any] = {}
    if base is not None and not (settings | overrides).get("inherit_off"):
        inherited = read_yaml(base.read_text(errors="replace"), str(base))
    content = {
        key: value for key, value in (inherited | settings | overrides).items() if value is not None
    }
    content["tag"] = content.get("tag") or tag
    try:
        config = ReleasedConfig.model_validate(content)
    except ValidationError as error:
        raise setting_error(error, known=ReleasedConfig.model_fields) from error
    _check(config)
    return config


def _find_base(path: Path) -> tuple[Path | None, str]:
    """The base file of ``config_DATASET_TAG.yaml``, if the base exists, and the tag."""
    words = path.stem.split("_")
    for length in range(len(words) - 1, 1, -1):
        base = path.with_name("_".join(words[:length]) + path.suffix)
        if base.is_file():
            return base, "_".join(words[length:])
    return None, words[-1] if len(words) > 2 else ""


def _check(config: ReleasedConfig) -> None:
    """Refuses settings that the released code supports and ctma does not."""
    if config.model not in METHODS:
        raise UnknownNameError("model", config.model, METHODS)
    for key in ("criterion", "out_type"):
        default, value = getattr(METHODS[config.model], key), getattr(config, key)
        if value not in ("", default):
            raise SettingError(f"{key}: {value}, that of {config.model} is {default}")
    if "class_weights" not in config.loss and config.weights != (0.5, 0.5):
        raise SettingError(f"weights: leave it out, the loss of {config.model} has none")
    if config.cmb_coeffs != 1 and abs(sum(config.cmb_coeffs) - 1) > 1e-6:
        raise SettingError(f"cmb_coeffs: {config.cmb_coeffs} must sum to 1")
    if (config.mu, config.sigma) != IMAGENET:
        raise SettingError(f"mu, sigma: {config.mu}, {config.sigma}, only ImageNet's {IMAGENET}")


def to_recipe(config: ReleasedConfig) -> Recipe:
    """Converts a released configuration to a ctma recipe.

    Raises:
        SettingError: If a value has no counterpart.
    """
    schedule: dict[str, Any] = {"name": "constant"}
    if config.sched_on and config.schedulers:
        schedule = config.schedulers[0].schedule
    network = METHODS[config.model].network
    weights = {"pretrained": config.pretrained} if "pretrained" in model_arguments(network) else {}
    return check_recipe(
        {
            "name": f"original/{config.dataset}",
            "model": {"name": network, **weights, **config.arguments},
            "data": {
                "repeats": config.repeats,
                "batch_size": config.batch_size,
                "crop_size": config.crop_size,
                "workers": config.num_workers,
            },
            "optimizer": {"lr": config.lr, "weight_decay": config.weight_decay},
            "schedule": schedule,
            "loss": config.loss,
            "trainer": {"epochs": config.num_epochs},
        }
    )


def find_data(config: ReleasedConfig) -> Path:
    """The data folder of a configuration: in ``$CTMA_DATA``, else in the home folder.

    Raises:
        DataError: If the folder does not exist.
    """
    home = os.environ.get("CTMA_DATA")
    folder = (Path(home) if home else Path.home()) / config.dataset
    if not folder.is_dir():
        raise DataError(f"{folder}: no such data folder; set CTMA_DATA to the folder above it")
    return folder

"""The settings of a recipe: one form per part, each checks its own values."""

from __future__ import annotations

import typing
from typing import Annotated, Any, Literal

import pydantic
from pydantic import AllowInfNan, Field, PositiveFloat

from ctma.settings import Form
from ctma.types import IMAGE_BANDS


class SourceSettings(Form):
    """One folder of training pairs.

    Attributes:
        folder: The folder's path, relative to the data folder.
        exclude: A pattern of pair names to leave out, such as ``j_*``.
        repeats: How often the list of this folder is drawn, times the recipe's repeats.
        zoom: Smallest and largest side of the square to cut, in crop sizes. A square of side 0.5
            is enlarged to double size, and a square of side 2 is reduced to half size.
        single: Whether the folder holds images of single dates, in ``image/``, and labels of
            objects, in ``label/``. Two images drawn at random form a pair.
    """

    folder: str = "."
    exclude: str | None = None
    repeats: int = Field(1, ge=1)
    zoom: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)
    single: bool = False

    @pydantic.field_validator("zoom")
    @classmethod
    def _ordered(cls, zoom: tuple[float, float]) -> tuple[float, float]:
        if zoom[0] > zoom[1]:
            raise ValueError("the smallest side comes first")
        return zoom


class DataSettings(Form):
    """The training data, and how an epoch draws from them.

    Attributes:
        sources: The folders of training pairs; the first folder also has the validation pairs.
        folders: The folder names of another layout, as ``before=X,after=Y,change=Z``.
        training_split: The split for training; never ``test``.
        validation_split: The split that chooses the best checkpoint; never ``test``.
        repeats: How often the training list is drawn in an epoch.
        draws: Number of pairs drawn in an epoch, in place of ``repeats`` and independent of the
            length of the list, or ``null``.
        batch_size: Pairs per step, in each process.
        crop_size: Side of the random crop in pixels.
        focus: Probability that a crop is placed over a changed pixel, if the pair has one.
        paste: Probability that the changed pixels of a random pair are pasted over a crop.
        augmentation: ``paper`` (one of seven transformations), ``mild``, ``strong`` or ``none``.
        without: Parts of the augmentation that are left out, such as ``swap``.
        workers: Loader processes; 0 loads in the training process itself.
        ground_sample_distance: Metres per pixel of the pairs, if known; stored in checkpoints.
        bands: Names of the bands that the network sees, by default red, green and blue. Other
            bands, and other types than 8 bits, are read from GeoTIFFs.
    """

    sources: list[SourceSettings] = Field(default_factory=lambda: [SourceSettings()], min_length=1)
    folders: str | None = None
    training_split: Literal["train", "val"] = "train"
    validation_split: Literal["train", "val", "test"] = "val"
    repeats: int = Field(1, ge=1)
    draws: int | None = Field(None, ge=1)
    batch_size: int = Field(8, ge=1)
    crop_size: int = Field(256, ge=64)
    focus: float = Field(0.0, ge=0, le=1)
    paste: float = Field(0.0, ge=0, le=1)
    augmentation: str = "paper"
    without: list[str] = Field(default_factory=list)
    workers: int = Field(2, ge=0)
    ground_sample_distance: float | None = Field(None, gt=0)
    bands: tuple[str, ...] = Field(IMAGE_BANDS, min_length=1)

    @pydantic.field_validator("bands")
    @classmethod
    def _each_once(cls, bands: tuple[str, ...]) -> tuple[str, ...]:
        if len({*bands}) < len(bands):
            raise ValueError("each name stands once")
        return tuple(name.lower() for name in bands)

    @pydantic.field_validator("sources")
    @classmethod
    def _validated(cls, sources: list[SourceSettings]) -> list[SourceSettings]:
        if sources[0].single:
            raise ValueError("the first one is validated on as well and must hold pairs")
        return sources


class OptimizerSettings(Form):
    """The optimizer: Adam, or AdamW with decoupled weight decay.

    Attributes:
        name: ``adam`` or ``adamw``.
        lr: Learning rate.
        backbone: Factor on the learning rate of the backbone, which may start from ImageNet.
        weight_decay: Weight decay of all weights.
    """

    name: Literal["adam", "adamw"] = "adam"
    lr: float = Field(4e-4, gt=0)
    backbone: float = Field(1.0, gt=0)
    weight_decay: float = Field(0.0, ge=0)


class ScheduleSettings(Form):
    """How the learning rate changes during training.

    Attributes:
        name: ``step`` multiplies the rate by ``gamma`` every ``step_size`` epochs. ``one-cycle``
            raises the rate over the ``warmup`` share of all steps, then lowers it along a cosine.
            ``plateau`` multiplies the rate by ``gamma`` after ``step_size`` epochs in a row
            without a better validation F1. ``constant`` keeps the rate.
        step_size: Number of epochs.
        gamma: Factor on the rate.
        warmup: Share of all steps.
    """

    name: Literal["step", "one-cycle", "plateau", "constant"] = "step"
    step_size: int = Field(10, ge=1)
    gamma: float = Field(0.1, gt=0)
    warmup: float = Field(0.1, gt=0, lt=1)


class BCESettings(Form):
    """Binary cross-entropy, with parts for a coarse mask and for overlap: the paper's loss.

    Attributes:
        name: The name of this family.
        class_weights: Weights w0 of no change and w1 of change; a changed pixel counts w1 / w0.
        coarse: Weight of the coarse part.
        dice: Weight of a soft Dice part on the fused logits.
        coarse_dice: Weight of a soft Dice part on the coarse logits.
    """

    name: Literal["bce"] = "bce"
    class_weights: tuple[PositiveFloat, PositiveFloat] = (0.5, 0.5)
    coarse: float = Field(0.4, ge=0)
    dice: float = Field(0.0, ge=0)
    coarse_dice: float = Field(0.0, ge=0)


class NLLSettings(Form):
    """Negative log-likelihood of the correct class, for networks without auxiliary outputs.

    Attributes:
        name: The name of this family.
        class_weights: Weights of no change and of change. The loss is divided by the sum of the
            weights of all pixels.
    """

    name: Literal["nll"] = "nll"
    class_weights: tuple[PositiveFloat, PositiveFloat] = (0.5, 0.5)


class ContrastiveSettings(Form):
    """Contrastive loss, balanced over the batch; logits are the distance minus the margin.

    Attributes:
        name: The name of this family.
        margin: The distance from which a pixel is change, as in the network. The loss pulls
            unchanged pixels to 0, and pushes changed pixels to twice the margin.
        auxiliary: Twice the weight of a Dice part on each auxiliary output.
    """

    name: Literal["contrastive"] = "contrastive"
    margin: PositiveFloat = 1.0
    auxiliary: float = Field(0.1, ge=0)


class DeepSettings(Form):
    """The sum of binary cross-entropy and Dice over all outputs, with equal weights.

    Attributes:
        name: The name of this family.
        dice: Weight of Dice.
    """

    name: Literal["deep"] = "deep"
    dice: float = Field(1.0, ge=0)


LossSettings = BCESettings | NLLSettings | ContrastiveSettings | DeepSettings
"""The families of losses, selected by ``name``; ``bce`` by default."""

LOSSES = tuple(form.model_fields["name"].default for form in typing.get_args(LossSettings))
"""The names of the loss families."""


class TrainerSettings(Form):
    """The settings of the trainer.

    Attributes:
        epochs: Passes over the (repeated) training list.
        precision: ``float32`` or ``bf16``.
        accumulate: Batches whose gradients are added up for one step.
        patience: Epochs without a better validation F1 after which to stop, or ``null``.
        clip: Largest gradient norm, or ``null``.
        average: Decay per step of the moving average of the weights. If set, the training
            validates and saves the average; with ``null``, the weights themselves.
    """

    epochs: int = Field(30, ge=1)
    precision: Literal["float32", "bf16"] = "float32"
    accumulate: int = Field(1, ge=1)
    patience: int | None = Field(None, ge=1)
    clip: float | None = Field(None, gt=0)
    average: float | None = Field(None, gt=0, lt=1)


class TeacherSettings(Form):
    """Trained networks whose outputs the network learns, beside the labels.

    After G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", arXiv
    1503.02531, 2015. Teachers see each crop before the augmentation changes its look, as the mean
    over four views. The mean of all teachers' calibrated logits is what the network learns.

    Attributes:
        checkpoints: The teachers by name or path, each with its share of the mean.
        weight: Weight of the teachers' part of the loss.
        dice: Weight of a soft Dice part beside the cross-entropy of the teachers' part.
    """

    checkpoints: dict[str, Annotated[PositiveFloat, AllowInfNan(False)]] = Field(min_length=1)
    weight: float = Field(4.0, gt=0, allow_inf_nan=False)
    dice: float = Field(0.5, ge=0, allow_inf_nan=False)


class Recipe(Form):
    """A named training configuration.

    Attributes:
        name: The recipe's name, such as ``levir-cd/ctma``.
        origin: The fingerprint of the file, if the recipe was read from a file.
        model: ``name`` for ``create_model``, and the network's arguments.
        teacher: The networks to learn from beside the labels, or ``null``.
        seed: Random seed of weights, order and augmentation.
    """

    name: str
    origin: str = ""
    model: dict[str, Any]
    data: DataSettings = DataSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    loss: LossSettings = Field(default_factory=BCESettings, discriminator="name")
    teacher: TeacherSettings | None = None
    trainer: TrainerSettings = TrainerSettings()
    seed: int = Field(0, ge=0, le=2**32 - 1)

    @pydantic.field_validator("loss", mode="before")
    @classmethod
    def _named(cls, loss: Any) -> Any:
        return {"name": "bce"} | loss if isinstance(loss, dict) else loss

    @property
    def network(self) -> str:
        """Name of the network."""
        return self.model["name"]

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the network."""
        return {key: value for key, value in self.model.items() if key != "name"}

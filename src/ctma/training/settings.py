"""What a recipe can say: its parts as forms that check themselves."""

from __future__ import annotations

import typing
from typing import Any, Literal

import pydantic
from pydantic import Field, PositiveFloat

from ctma.settings import Form


class SourceSettings(Form):
    """One folder of training pairs.

    Attributes:
        folder: Relative to the data folder.
        exclude: A pattern such as ``j_*`` of names that are left out.
        repeats: How often its list is drawn, on top of the recipe's repeats.
        zoom: Smallest and largest side of the square that a crop is cut from, in crop
            sizes: a square of 0.5 is enlarged twice, one of 2 reduced by half.
        single: Whether it holds images of single dates, ``image/`` and ``label/``, which says
            where something stands: two drawn at random are put together as a pair.
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
    """What is drawn in an epoch.

    Attributes:
        sources: Where the training pairs are; the validation pairs are the first one's.
        folders: Of another layout, ``before=X,after=Y,change=Z``: what its folders are called.
        training_split: The split that is trained on; never ``test``.
        validation_split: The split that the best checkpoint is picked on; never ``test``.
        repeats: How often the training list is drawn in an epoch.
        draws: How many pairs are drawn in an epoch, whatever the length of the list and in
            place of ``repeats``, or ``null``.
        batch_size: Pairs a step, in each process.
        crop_size: Side of the random crop in pixels.
        focus: Odds that a crop is laid over a changed pixel, where its pair has one.
        paste: Odds that the changed pixels of a pair drawn at random are laid over a crop.
        augmentation: ``paper`` (one of seven), ``mild``, ``strong`` or ``none``.
        without: Parts of the augmentation that are left out, such as ``swap``.
        workers: Loader processes; 0 loads in the training process itself.
        ground_sample_distance: Metres a pixel of the pairs, where known; kept in checkpoints.
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

    @pydantic.field_validator("sources")
    @classmethod
    def _validated(cls, sources: list[SourceSettings]) -> list[SourceSettings]:
        if sources[0].single:
            raise ValueError("the first one is validated on as well and must hold pairs")
        return sources


class OptimizerSettings(Form):
    """The optimizer: Adam, or AdamW with decoupled weight decay.

    Attributes:
        name: Which.
        lr: Learning rate.
        backbone: Factor on it for the weights that may start from ImageNet.
        weight_decay: Of all weights.
    """

    name: Literal["adam", "adamw"] = "adam"
    lr: float = Field(4e-4, gt=0)
    backbone: float = Field(1.0, gt=0)
    weight_decay: float = Field(0.0, ge=0)


class ScheduleSettings(Form):
    """How the learning rate falls.

    Attributes:
        name: ``step`` multiplies by ``gamma`` every ``step_size`` epochs; ``one-cycle``
            rises over the ``warmup`` share of all steps, then falls along a cosine;
            ``plateau`` multiplies by ``gamma`` after ``step_size`` epochs in a row that brought
            no better validation F1; ``constant`` stays.
        step_size: Epochs.
        gamma: Factor.
        warmup: Share of all steps.
    """

    name: Literal["step", "one-cycle", "plateau", "constant"] = "step"
    step_size: int = Field(10, ge=1)
    gamma: float = Field(0.1, gt=0)
    warmup: float = Field(0.1, gt=0, lt=1)


class BCESettings(Form):
    """Binary cross-entropy, with parts for a coarse mask and for overlap: the paper's loss.

    Attributes:
        name: Of this family.
        class_weights: Weights w0 of stillness and w1 of change; change counts w1 / w0.
        coarse: Weight of the coarse part.
        dice: Weight of a soft Dice part on the fused logits.
        coarse_dice: Weight of one on the coarse logits.
    """

    name: Literal["bce"] = "bce"
    class_weights: tuple[PositiveFloat, PositiveFloat] = (0.5, 0.5)
    coarse: float = Field(0.4, ge=0)
    dice: float = Field(0.0, ge=0)
    coarse_dice: float = Field(0.0, ge=0)


class NLLSettings(Form):
    """Negative log-likelihood of the right class, of networks without further outputs.

    Attributes:
        name: Of this family.
        class_weights: Weights of stillness and of change; the loss is divided by the weights
            of all pixels.
    """

    name: Literal["nll"] = "nll"
    class_weights: tuple[PositiveFloat, PositiveFloat] = (0.5, 0.5)


class ContrastiveSettings(Form):
    """Contrastive loss of a distance, balanced over the batch; logits are it less the margin.

    Attributes:
        name: Of this family.
        margin: The distance that is change, as in the network; stillness shall be at 0, change
            at twice the margin.
        auxiliary: Weight of a Dice part on the mean of further outputs.
    """

    name: Literal["contrastive"] = "contrastive"
    margin: PositiveFloat = 1.0
    auxiliary: float = Field(0.1, ge=0)


class DeepSettings(Form):
    """Binary cross-entropy and Dice of every output alike, added up.

    Attributes:
        name: Of this family.
        dice: Weight of Dice.
    """

    name: Literal["deep"] = "deep"
    dice: float = Field(1.0, ge=0)


LossSettings = BCESettings | NLLSettings | ContrastiveSettings | DeepSettings
"""Families of losses, told apart by their name; without one it is ``bce``."""

LOSSES = tuple(form.model_fields["name"].default for form in typing.get_args(LossSettings))
"""Their names."""


class TrainerSettings(Form):
    """The engine.

    Attributes:
        epochs: Passes over the (repeated) training list.
        precision: ``float32`` or ``bf16``.
        accumulate: Batches whose gradients are added up for one step.
        patience: Epochs without a better validation F1 after which to stop, or ``null``.
        clip: Largest gradient norm, or ``null``.
        average: Decay a step of the moving average of the weights, which is then what is
            validated and kept, or ``null`` for the weights themselves.
    """

    epochs: int = Field(30, ge=1)
    precision: Literal["float32", "bf16"] = "float32"
    accumulate: int = Field(1, ge=1)
    patience: int | None = Field(None, ge=1)
    clip: float | None = Field(None, gt=0)
    average: float | None = Field(None, gt=0, lt=1)


class Recipe(Form):
    """A named training configuration.

    Attributes:
        name: Such as ``levir-cd/ctma``.
        origin: For one that was read from a file, the file's fingerprint.
        model: ``name`` for ``create_model`` and its arguments.
        seed: Of weights, order and augmentation.
    """

    name: str
    origin: str = ""
    model: dict[str, Any]
    data: DataSettings = DataSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    loss: LossSettings = Field(default_factory=BCESettings, discriminator="name")
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

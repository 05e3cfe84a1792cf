"""Recipes: named training configurations, checked before anything starts."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError

from ctma.data.augmentation import augmentation
from ctma.errors import SettingError, UnknownNameError
from ctma.models.registry import model_arguments, model_hints

_FOLDER = resources.files("ctma.training") / "recipes"


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SourceSettings(_Settings):
    """One folder of training pairs.

    Attributes:
        folder: Relative to the data folder.
        exclude: A pattern such as ``j_*`` of names that are left out.
        repeats: How often its list is drawn, on top of the recipe's repeats.
        zoom: Smallest and largest side of the square that a crop is cut from, in crop
            sizes: a square of 0.5 is enlarged twice, one of 2 reduced by half.
    """

    folder: str = "."
    exclude: str | None = None
    repeats: int = Field(1, ge=1)
    zoom: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)

    @pydantic.field_validator("zoom")
    @classmethod
    def _ordered(cls, zoom: tuple[float, float]) -> tuple[float, float]:
        if zoom[0] > zoom[1]:
            raise ValueError("the smallest side comes first")
        return zoom


class DataSettings(_Settings):
    """What is drawn in an epoch.

    Attributes:
        sources: Where the training pairs are; the validation pairs are the first one's.
        subset: For SVCD, ``real``, ``with_shift`` or ``without_shift``.
        training_split: The split that is trained on; never ``test``.
        validation_split: The split that the best checkpoint is picked on; never ``test``.
        repeats: How often the training list is drawn in an epoch.
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
    subset: str = "real"
    training_split: Literal["train", "val"] = "train"
    validation_split: Literal["train", "val", "test"] = "val"
    repeats: int = Field(1, ge=1)
    batch_size: int = Field(8, ge=1)
    crop_size: int = Field(256, ge=64)
    focus: float = Field(0.0, ge=0, le=1)
    paste: float = Field(0.0, ge=0, le=1)
    augmentation: str = "paper"
    without: list[str] = []
    workers: int = Field(2, ge=0)
    ground_sample_distance: float | None = Field(None, gt=0, allow_inf_nan=False)


class OptimizerSettings(_Settings):
    """The optimizer: Adam, or AdamW with decoupled weight decay."""

    name: Literal["adam", "adamw"] = "adam"
    lr: float = Field(4e-4, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(0.0, ge=0)


class ScheduleSettings(_Settings):
    """How the learning rate falls.

    Attributes:
        name: ``step`` multiplies by ``gamma`` every ``step_size`` epochs; ``one-cycle``
            rises over the ``warmup`` share of all steps, then falls along a cosine;
            ``constant`` stays.
        step_size: Epochs.
        gamma: Factor.
        warmup: Share of all steps.
    """

    name: Literal["step", "one-cycle", "constant"] = "step"
    step_size: int = Field(10, ge=1)
    gamma: float = Field(0.1, gt=0)
    warmup: float = Field(0.1, gt=0, lt=1)


class LossSettings(_Settings):
    """Weights of the loss.

    Attributes:
        class_weights: Weights w0 of stillness and w1 of change; change counts w1 / w0.
        coarse: Weight of the coarse part.
        dice: Weight of a soft Dice part on the fused logits.
        coarse_dice: Weight of one on the coarse logits.
    """

    class_weights: tuple[PositiveFloat, PositiveFloat] = (0.5, 0.5)
    coarse: float = Field(0.4, ge=0)
    dice: float = Field(0.0, ge=0)
    coarse_dice: float = Field(0.0, ge=0)


class TrainerSettings(_Settings):
    """The engine.

    Attributes:
        epochs: Passes over the (repeated) training list.
        precision: ``32-true`` or ``bf16-mixed``.
        accumulate: Batches whose gradients are added up for one step.
        patience: Epochs without a better validation F1 after which to stop, or ``null``.
        clip: Largest gradient norm, or ``null``.
        average: Decay a step of the moving average of the weights, which is then what is
            validated and kept, or ``null`` for the weights themselves.
    """

    epochs: int = Field(30, ge=1)
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    accumulate: int = Field(1, ge=1)
    patience: int | None = Field(None, ge=1)
    clip: float | None = Field(None, gt=0)
    average: float | None = Field(None, gt=0, lt=1)


class Recipe(_Settings):
    """A named training configuration.

    Attributes:
        name: Such as ``levir-cd/ctma``.
        model: ``name`` for ``create_model`` and its arguments.
        seed: Of weights, order and augmentation.
    """

    name: str
    model: dict[str, Any]
    data: DataSettings = DataSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    loss: LossSettings = LossSettings()
    trainer: TrainerSettings = TrainerSettings()
    seed: int = Field(0, ge=0, le=2**32 - 1)

    @property
    def network(self) -> str:
        """Name of the network."""
        return self.model["name"]

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the network."""
        return {key: value for key, value in self.model.items() if key != "name"}


def list_recipes() -> list[str]:
    """Names that :func:`load_recipe` takes."""
    return sorted(
        f"{folder.name}/{file.name.removesuffix('.yaml')}"
        for folder in _FOLDER.iterdir()
        if folder.is_dir()
        for file in folder.iterdir()
        if file.name.endswith(".yaml")
    )


def load_recipe(name: str, settings: Iterable[str] = ()) -> Recipe:
    """Reads a recipe and applies settings to it.

    Args:
        name: One of :func:`list_recipes`, or the path of a YAML file.
        settings: Texts ``key.key=value`` with YAML values.

    Raises:
        UnknownNameError: If there is no such recipe, key, network, augmentation or part of it.
        SettingError: If a value is of the wrong type or out of range; it names the key.
    """
    content = _read(name)
    for setting in settings:
        _apply(content, setting)
    return check_recipe(content)


def check_recipe(content: dict[str, Any]) -> Recipe:
    """Makes a recipe of plain values; errors as in :func:`load_recipe`."""
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        raise setting_error(error) from error
    recipe.model = _check_model(recipe.model)
    augmentation(recipe.data.augmentation, recipe.data.without)
    if recipe.data.validation_split == "test":
        raise SettingError(
            "data.validation_split: the best checkpoint is never picked on test; use val"
        )
    if recipe.data.validation_split == recipe.data.training_split:
        raise SettingError("data.validation_split: is the training split; use val")
    return recipe


def _read(name: str) -> dict[str, Any]:
    file = Path(name)
    if file.suffix in {".yaml", ".yml"}:
        if not file.is_file():
            raise SettingError(f"{name}: no such recipe file")
        text = file.read_text(errors="replace")
    elif name in list_recipes():
        text = (_FOLDER / f"{name}.yaml").read_text()
    else:
        raise UnknownNameError("recipe", name, list_recipes())
    content = read_yaml(text, name)
    return {"name": name} | content


def read_yaml(text: str, source: str) -> dict[str, Any]:
    """Parses YAML that must be a mapping.

    Raises:
        SettingError: If it is no YAML or no mapping.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise SettingError(f"{source}: not valid YAML ({reason})") from error
    if not isinstance(content, dict):
        raise SettingError(f"{source}: expected keys and values")
    return content


def _apply(content: dict[str, Any], setting: str) -> None:
    path, equals, text = setting.partition("=")
    if not equals or not path:
        raise SettingError(f"--set {setting}: expected key=value, such as optimizer.lr=1e-3")
    *parents, last = path.split(".")
    place = content
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise UnknownNameError("key", path, _all_keys(Recipe))
    try:
        place[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingError(f"{path}: {text!r} is not a YAML value") from error


def _check_model(model: dict[str, Any]) -> dict[str, Any]:
    """Checks the types of a network's arguments and fills in none."""
    name = model.get("name")
    if not isinstance(name, str):
        raise SettingError("model.name: expected the name of a network")
    fields: dict[str, Any] = {
        key: (model_hints(name)[key], default) for key, default in model_arguments(name).items()
    }
    form = pydantic.create_model("Arguments", __config__=ConfigDict(extra="forbid"), **fields)
    arguments = {key: value for key, value in model.items() if key != "name"}
    try:
        checked = form.model_validate(arguments)
    except ValidationError as error:
        raise setting_error(error, "model.", fields) from error
    return {"name": name} | checked.model_dump(mode="json", exclude_unset=True)


def setting_error(
    error: ValidationError, prefix: str = "", known: Iterable[str] = ()
) -> SettingError | UnknownNameError:
    """One line for the first mistake that pydantic found, naming its key.

    Args:
        error: What pydantic says.
        prefix: Put before the key.
        known: Keys that exist, to suggest from; those of a recipe by default.
    """
    first = error.errors()[0]
    path = prefix + ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return UnknownNameError("key", path, [prefix + key for key in known] or _all_keys(Recipe))
    value = f", got {first['input']!r}" if first["type"] != "missing" else ""
    return SettingError(f"{path}: {first['msg'].lower()}{value}")


def _all_keys(settings: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and not typing.get_origin(kind) and issubclass(kind, BaseModel):
            yield from _all_keys(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"

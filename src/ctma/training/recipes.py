"""Recipes: named training configurations, checked before anything starts.

A recipe is a whole file, or composed of a data part and a network part. For example,
``levir-cd/ctma`` is ``data/levir-cd.yaml``, overridden by ``networks/ctma.yaml``. The key ``for``
of a network part holds values for certain data. A network without a network part uses the data
part alone.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ctma.data.augmentation import augmentation
from ctma.errors import SettingError, UnknownNameError
from ctma.files import file_fingerprint
from ctma.models.registry import list_models, model_arguments, model_hints
from ctma.settings import read_setting
from ctma.training.settings import LOSSES, ContrastiveSettings, LossSettings, Recipe

_FOLDER = resources.files("ctma.training") / "recipes"
_DATA, _NETWORKS = "data", "networks"


def list_recipes() -> list[str]:
    """Lists the names of the recipes, for ``load_recipe``."""
    whole = [
        f"{folder.name}/{name}"
        for folder in _FOLDER.iterdir()
        if folder.is_dir() and folder.name not in (_DATA, _NETWORKS)
        for name in _parts(folder.name)
    ]
    composed = [f"{data}/{network}" for data in _parts(_DATA) for network in list_models()]
    return sorted(whole + composed)


def load_recipe(name: str, settings: Iterable[str] = ()) -> Recipe:
    """Reads a recipe and applies settings to it.

    Args:
        name: One of ``list_recipes``, or the path of a YAML file.
        settings: Texts ``key.key=value`` with YAML values.

    Raises:
        UnknownNameError: If a recipe, key, network, augmentation or part of an augmentation does
            not exist.
        SettingError: If a value has the wrong type or is out of range; the error names the key.
    """
    return make_recipe(_read(name), settings)


def load_kept(path: Path, settings: Iterable[str] = ()) -> Recipe:
    """Reads the recipe that a run saved and applies settings, as ``load_recipe``.

    The saved recipe already holds its name and origin.
    """
    return make_recipe(_read_file(path), settings)


def make_recipe(content: dict[str, Any], settings: Iterable[str]) -> Recipe:
    """Makes a recipe of plain values and applies settings; errors as in ``load_recipe``."""
    for setting in (settings,) if isinstance(settings, str) else settings:
        _apply(content, setting)
    return check_recipe(content)


def show_recipe(name: str) -> dict[str, Any]:
    """A recipe with all its values; the network's arguments are not checked.

    Raises:
        UnknownNameError: If there is no such recipe or key.
        SettingError: If a value has the wrong type or is out of range; the error names the key.
    """
    return _validate(_read(name)).model_dump(mode="json")


def check_recipe(content: dict[str, Any]) -> Recipe:
    """Makes a recipe of plain values; errors as in ``load_recipe``."""
    recipe = _validate(content)
    model = _check_model(recipe.model)
    if isinstance(recipe.loss, ContrastiveSettings):
        margin = model.get("margin", model_arguments(model["name"]).get("margin"))
        if margin is not None and margin != recipe.loss.margin:
            raise SettingError(
                f"loss.margin: is {recipe.loss.margin:g}, and model.margin {margin:g}; give both "
                "the same value"
            )
    return recipe.model_copy(update={"model": model})


def _validate(content: dict[str, Any]) -> Recipe:
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        raise setting_error(error) from error
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
        content = _read_file(file) | {"origin": file_fingerprint(file)}
    elif name in list_recipes():
        folder, _, rest = name.partition("/")
        content = _compose(folder, rest) if folder in _parts(_DATA) else _read_part(folder, rest)
    else:
        raise UnknownNameError("recipe", name, list_recipes())
    return {"name": name} | content


def _read_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise SettingError(f"{path}: no such recipe file")
    return read_yaml(path.read_text(errors="replace"), str(path))


def _compose(data: str, network: str) -> dict[str, Any]:
    """A data part, overridden by a network part and its values for these data."""
    part: dict[str, Any] = {"model": {"name": network}}
    if network in _parts(_NETWORKS):
        part = _read_part(_NETWORKS, network)
    special: dict[str, Any] = part.pop("for", {}).get(data, {})
    return _merge(_merge(_read_part(_DATA, data), part), special)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """The keys of both parts; groups are merged, and single values of ``above`` win."""
    merged = below | above
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            merged[key] = below[key] | above[key]
    return merged


def _parts(folder: str) -> list[str]:
    files = (file.name for file in (_FOLDER / folder).iterdir())
    return sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))


def _read_part(folder: str, name: str) -> dict[str, Any]:
    return read_yaml((_FOLDER / folder / f"{name}.yaml").read_text(), f"{folder}/{name}")


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice, where YAML's loaders take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def read_yaml(text: str, source: str) -> dict[str, Any]:
    """Parses YAML that must be a mapping.

    Raises:
        SettingError: If the text is not YAML or not a mapping.
    """
    try:
        content = yaml.load(text, _StrictLoader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise SettingError(f"{source}: not valid YAML ({reason})") from error
    if not isinstance(content, dict):
        raise SettingError(f"{source}: expected keys and values")
    return content


def _apply(content: dict[str, Any], setting: str) -> None:
    path, value = read_setting(setting)
    *parents, last = path.split(".")
    group = content
    for parent in parents:
        if group.get(parent) is None:  # as a recipe without teachers says
            group[parent] = {}
        group = group[parent]
        if not isinstance(group, dict):
            raise UnknownNameError("key", path, _all_keys(Recipe))
    if path == "loss.name" and value != group.get("name", LOSSES[0]):
        group.clear()  # another family begins with its own defaults
    group[last] = value


def _check_model(model: dict[str, Any]) -> dict[str, Any]:
    """Checks the types of a network's arguments and adds no defaults."""
    name = model.get("name")
    if not isinstance(name, str):
        raise SettingError("model.name: expected the name of a network")
    hints = model_hints(name)
    fields: dict[str, Any] = {
        key: (hints.get(key, Any), default) for key, default in model_arguments(name).items()
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
    """The error for one mistake that pydantic found; one line that names the key.

    Args:
        error: The error from pydantic.
        prefix: Text before the key.
        known: Valid keys for suggestions; by default the keys of a recipe.
    """
    # A key that is missing may only be misspelt, which another error says better.
    first = min(error.errors(), key=lambda one: one["type"] == "missing")
    # Pydantic's location also contains the loss family, which is not a key.
    path = prefix + ".".join(str(part) for part in first["loc"] if part not in LOSSES)
    if first["type"] == "extra_forbidden":
        options = [key for part in first["loc"] if part in LOSSES for key in _loss_keys(str(part))]
        keys = options or [prefix + key for key in known] or _all_keys(Recipe)
        return UnknownNameError("key", path, keys)
    if first["type"] == "union_tag_invalid":
        return UnknownNameError("loss", first["ctx"]["tag"], LOSSES)
    if first["type"] in ("model_type", "dict_type"):
        return SettingError(f"{path}: expected keys and values, got {first['input']!r}")
    value = f", got {first['input']!r}" if first["type"] != "missing" else ""
    return SettingError(f"{path}: {first['msg'].lower()}{value}")


def _all_keys(settings: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in settings.model_fields.items():
        forms = _forms(field.annotation)
        if not forms:
            yield f"{prefix}{name}"
        for form in forms:
            yield from _all_keys(form, f"{prefix}{name}.")


def _loss_keys(family: str) -> Iterator[str]:
    for form in _forms(LossSettings):
        if form.model_fields["name"].default == family:
            yield from _all_keys(form, "loss.")


def _forms(annotation: Any) -> list[type[BaseModel]]:
    """The forms that a key may hold: none for a plain value, several for a union."""
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    kinds = typing.get_args(annotation) if is_union else (annotation,)
    return [
        kind
        for kind in kinds
        if not typing.get_origin(kind) and isinstance(kind, type) and issubclass(kind, BaseModel)
    ]

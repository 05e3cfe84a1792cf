"""Settings as values: frozen, checked where they are made, changed by making another."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from ctma.errors import SettingError, UnknownNameError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Settings = TypeVar("Settings", bound=DataclassInstance)


def first_invalid(error: ValidationError) -> str:
    """The first value that cannot be: its field, what it is, and why not."""
    (first, *_) = error.errors()
    return f"{'.'.join(map(str, first['loc']))} {first['input']!r}: {first['msg'].lower()}"


def settle(settings: DataclassInstance) -> None:
    """Gives each field the type that it is annotated with; for ``__post_init__``.

    Raises:
        SettingError: If a value cannot be of that type.
    """
    for name, (hint, adapter) in _adapters(type(settings)).items():
        value = getattr(settings, name)
        refusal = SettingError(f"`{name}` {value!r}: expected {_words(hint)}")
        # Pydantic would make numbers of texts, and truth values of both.
        if isinstance(value, bool) != (hint is bool) or isinstance(value, dict):
            raise refusal
        if isinstance(value, str) and str not in (hint, *get_args(hint)):
            raise refusal
        try:
            settled = adapter.validate_python(value)
        except ValidationError as error:
            raise refusal from error
        object.__setattr__(settings, name, settled)


def change_settings(
    kind: type[Settings], settings: Settings | None, changes: dict[str, Any]
) -> Settings:
    """Settings, the defaults if none are given, with some fields changed.

    Raises:
        UnknownNameError: If there is no such field.
        SettingError: If they are of another kind, or a value is out of its range.
    """
    if settings is None:
        settings = kind()
    if not isinstance(settings, kind):
        raise SettingError(f"settings {settings!r}: expected {kind.__name__}(…)")
    known = [field.name for field in fields(kind)]
    for name in changes:
        if name not in known:
            raise UnknownNameError("argument", name, known)
    return replace(settings, **changes)


def read_setting(setting: str) -> tuple[str, Any]:
    """The key and the value of ``key=value``, the value as YAML.

    Raises:
        SettingError: If it is something else.
    """
    import yaml

    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise SettingError(f"`settings` {setting}: expected key=value")
    try:
        return key, yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingError(f"{key}: {text!r} is not a YAML value") from error


def check_threshold(threshold: float | None) -> None:
    """Refuses what no probability can be compared with.

    Raises:
        SettingError: If a threshold is given and is not between 0 and 1.
    """
    if threshold is not None and not (_is_number(threshold) and 0 <= threshold <= 1):
        raise SettingError(f"`threshold` {threshold}: between 0 and 1")


def check_distance(ground_sample_distance: float | None) -> None:
    """Refuses what is no length.

    Raises:
        SettingError: If a distance is given and is not above 0 and finite.
    """
    distance = ground_sample_distance
    if distance is not None and not (_is_number(distance) and 0 < distance < math.inf):
        raise SettingError(
            f"`ground_sample_distance` {distance}: metres a pixel, above 0 and finite"
        )


def check_count(name: str, count: int | None, least: int = 1) -> None:
    """Refuses what is no number of things.

    Raises:
        SettingError: If a number is given and is not whole or below the least.
    """
    if count is not None and not (isinstance(count, int) and count >= least):
        raise SettingError(f"`{name}` {count}: a whole number, at least {least}")


def _is_number(value: object) -> bool:
    return hasattr(value, "__float__")


@cache
def _adapters(kind: type) -> dict[str, tuple[Any, TypeAdapter[Any]]]:
    hints = get_type_hints(kind)
    return {name: (hint, TypeAdapter(hint)) for name, hint in hints.items()}


def _words(hint: Any) -> str:
    """An annotation as people write it."""
    return hint.__name__ if isinstance(hint, type) else str(hint).replace(" | None", " or None")

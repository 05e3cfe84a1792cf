"""Settings as values: frozen, checked where they are made, changed by making another."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from ctma.errors import SettingError, UnknownNameError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Settings = TypeVar("Settings", bound=DataclassInstance)


def change_settings(settings: Settings, changes: dict[str, Any]) -> Settings:
    """Settings with some fields changed.

    Raises:
        UnknownNameError: If there is no such field.
        SettingError: If a value is out of its range.
    """
    known = [field.name for field in fields(settings)]
    for name in changes:
        if name not in known:
            raise UnknownNameError("argument", name, known)
    return replace(settings, **changes)


def check_threshold(threshold: float | None) -> None:
    """Refuses what no probability can be compared with.

    Raises:
        SettingError: If a threshold is given and is not between 0 and 1.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise SettingError(f"`threshold` {threshold}: between 0 and 1")


def check_distance(ground_sample_distance: float | None) -> None:
    """Refuses what is no length.

    Raises:
        SettingError: If a distance is given and is not above 0 and finite.
    """
    if ground_sample_distance is not None and not 0 < ground_sample_distance < math.inf:
        raise SettingError(
            f"`ground_sample_distance` {ground_sample_distance:g}: metres a pixel, above 0 and "
            "finite"
        )

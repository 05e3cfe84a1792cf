"""Settings as frozen values: checked at creation, changed only by making a copy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self, get_args

import pydantic
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core.core_schema import ValidationInfo

from ctma.errors import CtmaError, SettingError, UnknownNameError
from ctma.types import PRECISIONS


class Form(BaseModel):
    """Base class of frozen values whose fields are checked."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Settings(Form):
    """Base class of settings that users create.

    Raises:
        UnknownNameError: If there is no such field.
        SettingError: If a value has the wrong type or is out of range; the message names the field.
    """

    if not TYPE_CHECKING:  # type checkers and editors see the fields

        def __init__(self, **values: Any):
            try:
                super().__init__(**values)
            except ValidationError as error:
                raise _refusal(type(self), error) from None

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _of_the_right_kind(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses values of another type that pydantic would convert, such as text for a number."""
        hint = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) != (hint is bool):
            raise ValueError(f"expected {_words(hint)}")
        if isinstance(value, str) and not _takes_text(hint):
            raise ValueError(f"expected {_words(hint)}")
        if isinstance(value, dict) and not str(hint).startswith("dict"):
            raise ValueError(f"expected {_words(hint)}")
        return float(value) if _is_numpy_number(value) else value

    def replace(self, **changes: Any) -> Self:
        """A copy of the settings with some fields changed; raises the errors of the class."""
        return type(self)(**{name: getattr(self, name) for name in self.model_fields_set} | changes)


def check_kind(settings: object, kind: type[Settings]) -> None:
    """Refuses settings of another class.

    Raises:
        SettingError: If the settings are no instance of ``kind``.
    """
    if not isinstance(settings, kind):
        raise SettingError(f"settings {settings!r}: expected {kind.__name__}(…)")


def read_setting(setting: str) -> tuple[str, Any]:
    """The key and the value of ``key=value``, the value as YAML.

    Raises:
        SettingError: If the text has no key or no ``=``, or the value is not YAML.
    """
    import yaml

    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise SettingError(f"`settings` {setting}: expected key=value")
    try:
        return key, yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingError(f"{key}: {text!r} is not a YAML value") from error


def check_precision(name: str) -> None:
    """Refuses an unknown precision.

    Raises:
        UnknownNameError: If there is no such precision.
    """
    if name not in (*PRECISIONS, "auto"):
        raise UnknownNameError("precision", name, (*PRECISIONS, "auto"))


def check_threshold(threshold: float | None) -> None:
    """Refuses a threshold that is no probability.

    Raises:
        SettingError: If a threshold is given and is not between 0 and 1.
    """
    if threshold is not None and not (_is_number(threshold) and 0 <= threshold <= 1):
        raise SettingError(f"`threshold` {threshold}: between 0 and 1")


def check_distance(ground_sample_distance: float | None) -> None:
    """Refuses a ground sample distance that is no length.

    Raises:
        SettingError: If a distance is given and is not above 0 and finite.
    """
    distance = ground_sample_distance
    if distance is not None and not (_is_number(distance) and 0 < distance < math.inf):
        raise SettingError(
            f"`ground_sample_distance` {distance}: metres a pixel, above 0 and finite"
        )


def check_count(name: str, count: int | None, least: int = 1) -> None:
    """Refuses a count that is no whole number or is too small.

    Raises:
        SettingError: If a count is given and is not whole, or is below ``least``.
    """
    if count is not None and not (isinstance(count, int) and count >= least):
        raise SettingError(f"`{name}` {count}: a whole number, at least {least}")


def _refusal(kind: type[Settings], error: ValidationError) -> CtmaError:
    """The one-line error for the first mistake that pydantic found."""
    (first, *_) = error.errors()
    reason = first.get("ctx", {}).get("error")
    if isinstance(reason, CtmaError):
        return reason
    name = str(first["loc"][0]) if first["loc"] else kind.__name__
    if first["type"] == "extra_forbidden":
        return UnknownNameError("argument", name, kind.model_fields)
    value = getattr(error, "title", "") if not first["loc"] else repr(first["input"])
    if len(first["loc"]) > 1 or first["type"].endswith(("_type", "_parsing", "_from_float")):
        expected = f"expected {_words(kind.model_fields[name].annotation)}"
    else:
        expected = str(reason) if reason is not None else first["msg"].lower()
    return SettingError(f"`{name}` {value}: {expected}")


def _takes_text(hint: Any) -> bool:
    return (
        hint is Any
        or str in (hint, *get_args(hint))
        or any(isinstance(one, str) for one in get_args(hint))
    )


def _is_number(value: object) -> bool:
    return hasattr(value, "__float__")


def _is_numpy_number(value: object) -> bool:
    return hasattr(value, "dtype") and getattr(value, "ndim", 1) == 0


def _words(hint: Any) -> str:
    """An annotation as people write it."""
    return hint.__name__ if isinstance(hint, type) else str(hint).replace(" | None", " or None")

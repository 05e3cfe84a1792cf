"""The engines by name: those of ctma, and those of other packages."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ctma.engines.engine import Engine
from ctma.errors import CtmaError, SettingError, UnknownNameError
from ctma.plugins import ENGINES, find_extensions

_BUILT_IN = {
    "eager": "eager:Eager",
    "exact": "exact:Exact",
    "compile": "compiled:Compiled",
    "openvino": "openvino:OpenVino",
    "onnx": "onnx:Onnx",
}
"""Module and class of each engine of ctma, in the order of lists and help texts."""


def engine_names() -> list[str]:
    """The names of all engines."""
    return [*_BUILT_IN, *sorted(find_extensions(ENGINES))]


def find_engine(name: str) -> type[Engine]:
    """An engine by name.

    Raises:
        UnknownNameError: If there is no such engine.
        SettingError: If another package's engine fails to import, or is no ``Engine``.
    """
    if name in _BUILT_IN:
        module, _, kind = _BUILT_IN[name].partition(":")
        engine: type[Engine] = getattr(import_module(f"ctma.engines.{module}"), kind)
        return engine
    extensions = find_extensions(ENGINES)
    if name not in extensions:
        raise UnknownNameError("engine", name, engine_names())
    extension = extensions[name]()
    if not (isinstance(extension, type) and issubclass(extension, Engine)):
        raise SettingError(f"engine {name}: {extension!r} is no subclass of ctma.Engine")
    if extension.name != name:
        raise SettingError(f"engine {name}: its class has the name {extension.name!r}; take one")
    return extension


def check_engine(name: str, said: str = "engine") -> None:
    """Refuses a name that is neither an engine nor ``"auto"``.

    Args:
        name: The name to check.
        said: What the name stands for, for the error.

    Raises:
        UnknownNameError: If there is no such engine.
    """
    names = (*engine_names(), "auto")
    if name not in names:
        raise UnknownNameError(said, name, names)


def list_engines() -> list[dict[str, Any]]:
    """Describes each engine: name, summary, precisions, devices, packages, needs, installed."""
    return [_describe(name) for name in engine_names()]


def _describe(name: str) -> dict[str, Any]:
    """What an engine says of itself; of another package's engine that fails to load, why."""
    try:
        return find_engine(name).about()
    except CtmaError as error:
        nothing: dict[str, Any] = {"precisions": [], "devices": [], "packages": [], "needs": ""}
        return {"name": name, "summary": str(error), **nothing, "installed": False}

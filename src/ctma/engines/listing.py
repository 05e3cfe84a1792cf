"""The engines by name: those of ctma, and those that others have registered."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ctma.engines.engine import Engine
from ctma.errors import SettingError, UnknownNameError
from ctma.plugins import ENGINES, find_extensions

_BUILT_IN = {
    "eager": "eager:Eager",
    "exact": "exact:Exact",
    "compile": "compiled:Compiled",
    "openvino": "openvino:OpenVino",
    "onnx": "onnx:Onnx",
}
"""Where the engines of ctma stand, in the order in which people read of them."""


def engine_names() -> list[str]:
    """The names of all engines."""
    return [*_BUILT_IN, *sorted(find_extensions(ENGINES))]


def find_engine(name: str) -> type[Engine]:
    """An engine by name.

    Raises:
        UnknownNameError: If there is no such engine.
        SettingError: If another package's engine cannot be imported, or is none.
    """
    if name in _BUILT_IN:
        module, _, kind = _BUILT_IN[name].partition(":")
        engine: type[Engine] = getattr(import_module(f"ctma.engines.{module}"), kind)
        return engine
    extensions = find_extensions(ENGINES)
    if name not in extensions:
        raise UnknownNameError("engine", name, engine_names())
    found = extensions[name]()
    if not (isinstance(found, type) and issubclass(found, Engine)):
        raise SettingError(f"engine {name}: {found!r} is no subclass of ctma.Engine")
    return found


def check_engine(name: str, said: str = "engine") -> None:
    """Refuses what is no engine.

    Args:
        name: What was given.
        said: What it was given as.

    Raises:
        UnknownNameError: If there is no such engine.
    """
    known = (*engine_names(), "auto")
    if name not in known:
        raise UnknownNameError(said, name, known)


def list_engines() -> list[dict[str, Any]]:
    """What each engine says of itself: name, summary, precisions, devices, packages, installed."""
    return [find_engine(name).about() for name in engine_names()]

"""What others have added: networks, data readers, engines by name, from calls and entry points."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ctma.errors import SettingError

NETWORKS, READERS, ENGINES = "ctma.networks", "ctma.readers", "ctma.engines"

_registered: dict[str, dict[str, Callable[..., Any]]] = {NETWORKS: {}, READERS: {}, ENGINES: {}}


def add_extension(group: str, name: str, extension: Callable[..., Any]) -> None:
    """Adds what is known by a name from now on in this process."""
    _registered[group][name] = extension


def find_extensions(group: str) -> dict[str, Callable[[], Callable[..., Any]]]:
    """What is registered in a group: by name, a function that gives it.

    Only then is the module of an entry point imported; a SettingError names one that fails.
    """
    installed = {point.name: partial(_load, point) for point in entry_points(group=group)}
    return installed | {
        name: partial(_give, extension) for name, extension in _registered[group].items()
    }


def _load(point: EntryPoint) -> Callable[..., Any]:
    try:
        found = point.load()
    except Exception as error:
        # Whatever another package raises where it is imported.
        raise SettingError(f"{_describe(point)}: cannot be imported ({error})") from error
    if not callable(found):
        raise SettingError(f"{_describe(point)}: is no class and no function")
    return found


def _describe(point: EntryPoint) -> str:
    package = point.dist.name if point.dist else "a package"
    return f"{point.name} = {point.value!r}, an entry point of {package}"


def _give(registered: Callable[..., Any]) -> Callable[..., Any]:
    return registered

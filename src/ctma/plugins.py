"""Networks, data readers and engines that calls and entry points have registered by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ctma.errors import SettingError

NETWORKS, READERS, ENGINES = "ctma.networks", "ctma.readers", "ctma.engines"

_registered: dict[str, dict[str, Callable[..., Any]]] = {NETWORKS: {}, READERS: {}, ENGINES: {}}


def add_extension(group: str, name: str, extension: Callable[..., Any]) -> None:
    """Registers an extension under a name, for this process."""
    _registered[group][name] = extension


def find_extensions(group: str) -> dict[str, Callable[[], Callable[..., Any]]]:
    """The extensions of a group: by name, a function that returns the extension.

    An entry point's module is imported only when that function is called. A SettingError names
    an entry point that fails.
    """
    installed = {point.name: partial(_load, point) for point in entry_points(group=group)}
    return installed | {
        name: partial(_give, extension) for name, extension in _registered[group].items()
    }


def _load(point: EntryPoint) -> Callable[..., Any]:
    try:
        extension = point.load()
    except Exception as error:
        # The import of another package may raise any exception.
        raise SettingError(f"{_describe(point)}: cannot be imported ({error})") from error
    if not callable(extension):
        raise SettingError(f"{_describe(point)}: is no class and no function")
    return extension


def _describe(point: EntryPoint) -> str:
    package = point.dist.name if point.dist else "a package"
    return f"{point.name} = {point.value!r}, an entry point of {package}"


def _give(registered: Callable[..., Any]) -> Callable[..., Any]:
    return registered

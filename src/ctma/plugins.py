"""What others have added: networks and data readers by name, from calls and entry points."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.metadata import entry_points
from typing import Any

NETWORKS, READERS = "ctma.networks", "ctma.readers"

_registered: dict[str, dict[str, Callable[..., Any]]] = {NETWORKS: {}, READERS: {}}


def add_extension(group: str, name: str, extension: Callable[..., Any]) -> None:
    """Adds what is known by a name from now on in this process."""
    _registered[group][name] = extension


def find_extensions(group: str) -> dict[str, Callable[[], Callable[..., Any]]]:
    """What is registered in a group: by name, a function that gives it.

    Only then is the module of an entry point imported.
    """
    installed = {point.name: point.load for point in entry_points(group=group)}
    return installed | {name: partial(_give, own) for name, own in _registered[group].items()}


def _give(registered: Callable[..., Any]) -> Callable[..., Any]:
    return registered

"""Networks and data readers of one's own, by a call or as entry points of a package.

An entry point of the group ``ctma.networks`` or ``ctma.readers`` has the name that users give
and the place of what :func:`register` would be given::

    [project.entry-points."ctma.networks"]
    mine = "my_package.networks:Mine"
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.metadata import entry_points
from typing import Any

from ctma.errors import SettingError

NETWORKS, READERS = "ctma.networks", "ctma.readers"

_registered: dict[str, dict[str, Callable[..., Any]]] = {NETWORKS: {}, READERS: {}}


def register(
    name: str,
    *,
    network: Callable[..., Any] | None = None,
    reader: Callable[..., Any] | None = None,
) -> None:
    """Makes a network or a data reader of one's own known by name.

    Args:
        name: A network's name for ``create_model``, recipes and checkpoints; a reader's for
            its errors.
        network: A subclass of ``ctma.ChangeNetwork``, or a function that makes one. Its
            arguments are those of ``create_model`` and of ``model.…`` in recipes, so each needs
            a type and a default; ``bands`` and ``pretrained`` mean the same everywhere.
        reader: A function that takes a data folder (``pathlib.Path``) and the name of a split
            and returns its pairs (a list of ``ctma.Pair``), or ``None`` if the folder is not
            of its kind or has no such split. Own readers are asked before those of ctma.

    Raises:
        SettingError: If not exactly one of the two is given.
    """
    if (network is None) == (reader is None):
        raise SettingError(f"register {name!r}: give either `network` or `reader`")
    if network is not None:
        _registered[NETWORKS][name] = network
    elif reader is not None:
        _registered[READERS][name] = reader


def find_extensions(group: str) -> dict[str, Callable[[], Callable[..., Any]]]:
    """What is registered in a group: by name, a function that gives it.

    Only then is the module of an entry point imported.
    """
    installed = {point.name: point.load for point in entry_points(group=group)}
    return installed | {name: partial(_give, own) for name, own in _registered[group].items()}


def _give(registered: Callable[..., Any]) -> Callable[..., Any]:
    return registered

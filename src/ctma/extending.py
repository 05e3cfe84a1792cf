"""Networks and data readers of one's own, known by name everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ctma.errors import SettingError
from ctma.models.registry import list_models
from ctma.plugins import NETWORKS, READERS, add_extension, find_extensions


def register(
    name: str,
    *,
    network: Callable[..., Any] | None = None,
    reader: Callable[..., Any] | None = None,
) -> None:
    """Makes a network or a data reader of one's own known by name.

    An installed package can do the same without being imported, by an entry point of the group
    ``ctma.networks`` or ``ctma.readers`` that has the name and the place of what would be given
    here::

        [project.entry-points."ctma.networks"]
        mine = "my_package.networks:Mine"

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
        SettingError: If not exactly one of the two is given, it cannot be called, or the name
            is taken or is none.
    """
    if (network is None) == (reader is None):
        raise SettingError(f"register {name!r}: give either `network` or `reader`")
    if not callable(reader if network is None else network):
        raise SettingError(f"register {name!r}: give a class or a function")
    if not isinstance(name, str) or not name or set(name) & set("/\\ \t\n"):
        raise SettingError(f"register {name!r}: a name is a word without a slash")
    taken = list_models() if network is not None else find_extensions(READERS)
    if name in taken:
        kind = "network" if network is not None else "reader"
        raise SettingError(f"register {name!r}: there is a {kind} of that name; choose another")
    if network is not None:
        add_extension(NETWORKS, name, network)
    elif reader is not None:
        add_extension(READERS, name, reader)

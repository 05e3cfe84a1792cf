"""Registers the user's own networks, data readers and engines under names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ctma.engines.engine import Engine
from ctma.engines.listing import engine_names
from ctma.errors import SettingError
from ctma.models.registry import list_models
from ctma.plugins import ENGINES, NETWORKS, READERS, add_extension, find_extensions


def register(
    name: str,
    *,
    network: Callable[..., Any] | None = None,
    reader: Callable[..., Any] | None = None,
    engine: type[Engine] | None = None,
) -> None:
    """Registers your own network, data reader or engine under a name.

    An installed package can register without an import, by an entry point of the group
    ``ctma.networks``, ``ctma.readers`` or ``ctma.engines``. The entry point consists of the name
    and the place of the class or function::

        [project.entry-points."ctma.networks"]
        mine = "my_package.networks:Mine"

    Args:
        name: The new name. ``create_model``, recipes and checkpoints use a network's name. Error
            messages use a reader's name. ``ctma.load`` uses an engine's name, which must equal
            the engine's ``name``.
        network: A subclass of ``ctma.ChangeNetwork``, or a function that returns a network.
            ``create_model``, and ``model.…`` in recipes, set its arguments, so each argument
            needs a type and a default. ``bands`` and ``pretrained`` mean the same in all networks.
        reader: A function that takes a data folder (``pathlib.Path``) and the name of a split
            and returns the split's pairs (a list of ``ctma.Pair``). It returns ``None`` if the
            folder has another layout or no such split. ctma tries registered readers before its
            own readers.
        engine: A subclass of ``ctma.Engine``.

    Raises:
        SettingError: If not exactly one of ``network``, ``reader`` and ``engine`` is given, if
            the extension cannot be called, or if the name is taken or invalid.
    """
    extensions = {
        kind: extension
        for kind, extension in (("network", network), ("reader", reader), ("engine", engine))
        if extension is not None
    }
    if len(extensions) != 1:
        raise SettingError(f"register {name!r}: give one of `network`, `reader` and `engine`")
    ((kind, extension),) = extensions.items()
    if not callable(extension):
        raise SettingError(f"register {name!r}: give a class or a function")
    if engine is not None and not (isinstance(engine, type) and issubclass(engine, Engine)):
        raise SettingError(f"register {name!r}: an engine is a subclass of ctma.Engine")
    if engine is not None and engine.name != name:
        raise SettingError(f"register {name!r}: the engine's own `name` is {engine.name!r}")
    if not isinstance(name, str) or not name or set(name) & set("/\\ \t\n"):
        raise SettingError(f"register {name!r}: a name is a word without a slash")
    group, taken = _GROUPS[kind]
    if name in taken():
        raise SettingError(f"register {name!r}: there is a {kind} of that name; choose another")
    add_extension(group, name, extension)


_GROUPS: dict[str, tuple[str, Callable[[], Iterable[str]]]] = {
    "network": (NETWORKS, list_models),
    "reader": (READERS, lambda: find_extensions(READERS)),
    "engine": (ENGINES, engine_names),
}
"""For each kind of extension, its group, and a function that returns the names in use."""

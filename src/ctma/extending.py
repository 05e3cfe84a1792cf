"""Networks, data readers and engines of one's own, known by name everywhere."""

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
    """Makes a network, a data reader or an engine of one's own known by name.

    An installed package can do the same without being imported: by an entry point of the group
    ``ctma.networks``, ``ctma.readers`` or ``ctma.engines`` with the name, and the place of what
    would be given here::

        [project.entry-points."ctma.networks"]
        mine = "my_package.networks:Mine"

    Args:
        name: A network's name for ``create_model``, recipes and checkpoints; a reader's for
            its errors; an engine's for ``ctma.load``, which must be its ``name``.
        network: A subclass of ``ctma.ChangeNetwork``, or a function that makes one. Its
            arguments are those of ``create_model`` and of ``model.…`` in recipes, so each needs
            a type and a default; ``bands`` and ``pretrained`` mean the same everywhere.
        reader: A function that takes a data folder (``pathlib.Path``) and the name of a split
            and returns its pairs (a list of ``ctma.Pair``), or ``None`` if the folder is not
            of its kind or has no such split. Own readers are asked before those of ctma.
        engine: A subclass of ``ctma.Engine``.

    Raises:
        SettingError: If not exactly one of the three is given, it cannot be called, or the name
            is taken or is none.
    """
    given = {
        kind: extension
        for kind, extension in (("network", network), ("reader", reader), ("engine", engine))
        if extension is not None
    }
    if len(given) != 1:
        raise SettingError(f"register {name!r}: give one of `network`, `reader` and `engine`")
    ((kind, extension),) = given.items()
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
"""Where extensions of each kind are kept, and which names are taken."""

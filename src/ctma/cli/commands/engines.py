"""``ctma engines``."""

from __future__ import annotations

from rich.table import Table

from ctma.cli.commands.options import Json
from ctma.cli.output import print_json, show


def engines(as_json: Json = False) -> None:
    """List what can run a network: precisions, devices, and what must be installed."""
    from ctma.engines.listing import list_engines

    listed = list_engines()
    if as_json:
        print_json(listed)
        return
    table = Table("engine", "what it is", "precisions", "devices", "needs", "installed")
    for engine in listed:
        needs = ", ".join(filter(None, [*engine["packages"], engine["needs"]]))
        table.add_row(
            engine["name"],
            engine["summary"],
            ", ".join(engine["precisions"]),
            ", ".join(engine["devices"]),
            needs,
            "yes" if engine["installed"] else "no",
        )
    show(table)

"""``ctma recipes``."""

from __future__ import annotations

from typing import Annotated

import typer

from ctma.cli.commands.options import Json, complete_recipes
from ctma.cli.output import print_json, say


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A recipe to print, with all its values.",
            show_default="all names",
            autocompletion=complete_recipes,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the recipes, or print one with every value it has."""
    import yaml

    from ctma.training.recipes import list_recipes, show_recipe

    content = list_recipes() if name is None else show_recipe(name)
    if as_json:
        print_json(content)
    elif isinstance(content, list):
        say("\n".join(content))
    else:
        say(yaml.safe_dump(content, sort_keys=False).rstrip())

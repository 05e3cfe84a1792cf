"""Pages that are made of the code when the site is built."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import typer.main
from typer.cli import get_docs_for_click

from ctma.cli.app import app

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

COMMANDS = "reference/commands.md"
INTRODUCTION = """# Commands

Every command with its arguments and options, as `ctma COMMAND --help` prints them. The page is made
of the code.

"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the page of all commands."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, COMMANDS, content=INTRODUCTION + describe_commands()))
    return files


def describe_commands() -> str:
    """All commands as Markdown."""
    group = typer.main.get_command(app)
    context = group.context_class(group, info_name="ctma")
    text = get_docs_for_click(obj=group, ctx=context, name="ctma")
    _, _, text = text.partition("\n")  # its own first heading
    # What stands between angle or square brackets is text here, no HTML and no link.
    return re.sub(r"<([A-Za-z_|, …]+)>", r"&lt;\1&gt;", text)

"""``ctma demo``."""

from __future__ import annotations

from itertools import chain, count
from pathlib import Path
from typing import Annotated

import typer

from ctma.cli.output import print_scores, progress, say


def demo(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The folder to write; it must not exist.",
            show_default="demo, demo-2, …",
        ),
    ] = None,
) -> None:
    """Show the whole path on synthetic pairs: train, score, predict, draw, map. Four minutes."""
    from ctma.demo import run_demo

    with progress("Steps of the demo") as on_progress:
        run = run_demo(output or _free_folder(), on_progress)
    print_scores(run.record)
    f1 = 100 * run.record.scores.f1
    say(f"F1        {f1:.2f} % on held-out pairs ({run.seconds:.0f} s in all)")
    say(f"checkpoint {run.checkpoint}")
    say(f"mask       {run.mask}")
    say(f"pictures   {run.sheet}")
    if run.scene is None:
        say("no scene: pip install 'ctma[scene]' for GeoTIFFs and polygons")
        return
    scene = run.scene
    say(f"scene      {scene.changes} changes, {scene.found:.0%} of the changed pixels, found in a")
    say("           GeoTIFF pair by the shipped weights, taught by real images and not drawn ones:")
    say(f"           {scene.folder}, picture {scene.picture}")
    say(f"review     {scene.page}: open it in a browser, look, and decide")


def _free_folder() -> Path:
    names = chain(["demo"], (f"demo-{number}" for number in count(2)))
    return next(Path(name) for name in names if not Path(name).exists())

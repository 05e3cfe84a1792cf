"""``ctma bench``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ctma.cli.commands.options import Json, NoCache
from ctma.cli.output import print_json, progress, say, show
from ctma.errors import SettingError
from ctma.types import BEST_SHIPPED


def bench(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="A checkpoint or an exported model; may be repeated.",
            show_default=BEST_SHIPPED,
        ),
    ] = None,
    size: Annotated[
        str, typer.Option(help="Height and width of the images, pixels, separated by commas.")
    ] = "256,1024",
    engine: Annotated[
        str | None,
        typer.Option(help="Names of engines, separated by commas.", show_default="all but compile"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="A data folder; its val split measures the agreement.", show_default="drawn pairs"
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Timed runs of each engine.")] = 9,
    no_cache: NoCache = False,
    as_json: Json = False,
) -> None:
    """Time the engines on this machine, and measure how far their masks agree."""
    from ctma.devices import describe_processor
    from ctma.evaluation.speed import bench as run

    with progress("Timing") as on_progress:
        timings = run(
            model or [BEST_SHIPPED],
            _sizes(size),
            engine.split(",") if engine else [],
            data=data,
            rounds=rounds,
            cache=not no_cache,
            on_progress=on_progress,
        )
    processor = describe_processor()
    if as_json:
        print_json({"processor": processor, "timings": [asdict(timing) for timing in timings]})
        return
    table = Table("model", "engine", "precision", "size", "ms a pair", "times eager", "times first",
                  "max dlogit",
                  "same mask", "MiB", "GMAC")  # fmt: skip
    for timing in timings:
        apart, gmac = timing.logit_difference, timing.gmac
        table.add_row(
            Path(timing.model).name,
            timing.engine,
            timing.precision,
            str(timing.size),
            f"{timing.milliseconds:.1f}",
            "" if timing.ratio is None else f"{timing.ratio:.2f}",
            f"{timing.ratio_to_first:.2f}",
            "" if apart is None else f"{apart:.1e}",
            f"{100 * timing.agreement:.3f} %",
            f"{timing.memory_mib:.0f}",
            "" if gmac is None else f"{gmac:.1f}",
        )
    show(table)
    units = ", ".join(processor["units"]) or "no units for bf16 or 8 bits"
    say(f"{processor['name']}, {processor['threads']} threads, {units}")


def _sizes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise SettingError(f"`size` {text}: expected numbers such as 256,1024") from error

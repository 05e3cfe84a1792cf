"""``ctma adapt``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctma.cli.commands.options import Device, GroundSampleDistance, Json, refuse_options
from ctma.cli.output import print_json, progress, say
from ctma.types import counted, ignore

if TYPE_CHECKING:
    from ctma.adaptation.adapt import Adaptation


def adapt(
    context: typer.Context,
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, or a shipped one by name.")],
    data: Annotated[
        Path, typer.Option("--data", help="The data folder of ctma prepare labels.", metavar="DIR")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder to write.", metavar="DIR")
    ],
    rehearse: Annotated[
        Path | None,
        typer.Option(
            help="Data like those of the checkpoint's training: rehearsed, and scored.",
            metavar="DIR",
        ),
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.01, help="Time for the whole.")] = 10.0,
    most_loss: Annotated[
        float, typer.Option(min=0, help="Largest loss of F1 elsewhere, in percent.")
    ] = 0.5,
    calibrate_only: Annotated[
        bool,
        typer.Option("--calibrate-only", help="Adapt threshold and temperature, and no weight."),
    ] = False,
    gsd: GroundSampleDistance = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed of the draws.")] = 0,
    device: Device = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier adaptation there.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Learn the look of a place from labelled tiles, and say what it costs elsewhere.

    The result holds at most 2 MB of differences to the old weights. The old checkpoint stays.
    """
    from ctma.adaptation.adapt import adapt as run
    from ctma.adaptation.learning import Learning
    from ctma.adaptation.settings import AdaptationSettings

    if calibrate_only:
        refuse_options(context, {"minutes", "seed"}, "has no part in --calibrate-only")
    settings = AdaptationSettings(
        minutes=minutes,
        most_loss=most_loss,
        calibrate_only=calibrate_only,
        ground_sample_distance=gsd,
        learning=Learning(seed=seed),
    )
    with progress("Learning") as on_progress:
        result = run(
            checkpoint,
            data,
            output,
            settings,
            rehearse=rehearse,
            device=device,
            overwrite=overwrite,
            on_note=ignore if as_json else say,
            on_progress=on_progress,
        )
    if as_json:
        print_json(result.as_dict())
        return
    _print(result)


def _print(result: Adaptation) -> None:
    here, elsewhere = result.here, result.elsewhere
    tiles = counted(here.pairs, "tile")
    say(f"here {here}: F1 {here.before:.1f} before, {here.after:.1f} after, {tiles}")
    if elsewhere is None:
        say("elsewhere not measured; --rehearse names data to measure on")
    else:
        pairs, then = counted(elsewhere.pairs, "pair"), elsewhere.before
        say(f"elsewhere {elsewhere}: F1 {then:.1f} before, {elsewhere.after:.1f} after, {pairs}")
    if result.share < 1 and result.steps:
        why = "nothing was rehearsed" if elsewhere is None else "more would cost too much elsewhere"
        say(f"kept {100 * result.share:.0f} % of what was learned: {why}")
    say(f"threshold {result.setting.threshold:.2f}, temperature {result.setting.temperature:.2f}")
    say(f"wrote {result.checkpoint}, {result.bytes / 1e6:.2f} MB; take {result.checkpoint.parent}")

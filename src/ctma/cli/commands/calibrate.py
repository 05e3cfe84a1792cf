"""``ctma calibrate``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ctma.cli.commands.options import (
    Device,
    Engine,
    Folders,
    Json,
    NoCache,
    Precision,
    Protocol,
    ReplaceFile,
)
from ctma.cli.output import print_json, progress, say


def calibrate(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint.")],
    data: Annotated[
        list[Path], typer.Option("--data", help="A data folder; may be repeated.", metavar="DIR")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The calibrated checkpoint.", metavar="FILE")
    ],
    split: Annotated[str, typer.Option(help="The split to calibrate on: val or train.")] = "val",
    protocol: Protocol = "crops",
    folders: Folders = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "float32",
    no_cache: NoCache = False,
    overwrite: ReplaceFile = False,
    as_json: Json = False,
) -> None:
    """Make probabilities mean what they say: temperature, offset, best threshold, found on val."""
    from ctma.checkpoints.header import read_header
    from ctma.evaluation.calibration import calibrate as run
    from ctma.inference.predictor import load

    predictor = load(
        checkpoint, engine=engine, precision=precision, device=device, cache=not no_cache
    )
    with progress("Calibrating") as on_progress:
        calibration = run(
            predictor,
            data,
            output,
            split=split,
            folders=folders,
            protocol=protocol,
            overwrite=overwrite,
            on_progress=on_progress,
        )
    if as_json:
        print_json(asdict(calibration) | {"record": read_header(output).calibration})
        return
    say(
        f"temperature {calibration.temperature:.3f}, offset {calibration.offset:+.3f}, "
        f"threshold {calibration.threshold:.2f}"
    )
    say(
        f"expected calibration error {100 * calibration.error_before:.2f} % before, "
        f"{100 * calibration.error_by_temperature:.2f} % by temperature alone, "
        f"{100 * calibration.error_after:.2f} % after"
    )
    before, after = 100 * calibration.f1_before, 100 * calibration.f1_after
    say(f"F1 {before:.2f} at 0.5 before, {after:.2f} after")
    for way, share in calibration.agreement.items():
        say(f"{way}: the mask of float32 on {100 * share:.3f} % of the pixels")
    say(f"wrote {output}")

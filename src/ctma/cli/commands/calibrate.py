"""``ctma calibrate``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    refuse_options,
)
from ctma.cli.output import print_json, progress, say
from ctma.types import counted

if TYPE_CHECKING:
    from ctma.inference.predictor import Predictor


_OF_MISSES = {"sure", "of", "scenes"}


def calibrate(
    context: typer.Context,
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint.")],
    data: Annotated[
        list[Path], typer.Option("--data", help="A data folder; may be repeated.", metavar="DIR")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The calibrated checkpoint.", metavar="FILE")
    ],
    split: Annotated[str, typer.Option(help="The split to calibrate on: val or train.")] = "val",
    miss: Annotated[
        float | None,
        typer.Option(
            help="Choose the threshold that misses at most this share of the change, and nothing "
            "else.",
            metavar="SHARE",
        ),
    ] = None,
    sure: Annotated[
        float | None,
        typer.Option(
            help="Confidence of --miss, such as 0.9.",
            show_default="in expectation",
            metavar="SHARE",
        ),
    ] = None,
    of: Annotated[str, typer.Option(help="What --miss counts: area or objects.")] = "area",
    scenes: Annotated[
        str | None,
        typer.Option(
            help="For --miss, a regular expression that finds the scene in a pair's name.",
            show_default="the name without the numbers at its end",
            metavar="PATTERN",
        ),
    ] = None,
    seen: Annotated[
        bool,
        typer.Option(
            "--seen",
            help="Only add what the training images in --data look like, for predict --doubt; "
            "the split is train.",
        ),
    ] = False,
    names: Annotated[
        str | None,
        typer.Option(
            help="For --seen, a regular expression: only pairs whose name it finds.",
            metavar="PATTERN",
        ),
    ] = None,
    protocol: Protocol = "crops",
    folders: Folders = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "float32",
    no_cache: NoCache = False,
    overwrite: ReplaceFile = False,
    as_json: Json = False,
) -> None:
    """Make probabilities mean what they say: temperature, offset, best threshold, found on val.

    With --miss, only the threshold is chosen, so that no more than a share of the change is missed.
    """
    from ctma.inference.predictor import load

    predictor = load(
        checkpoint, engine=engine, precision=precision, device=device, cache=not no_cache
    )
    if seen:
        refuse_options(context, _OF_MISSES | {"miss", "protocol", "split"}, "has no part in --seen")
        _remember(predictor, data, output, names, folders, overwrite, as_json)
        return
    refuse_options(context, {"names"}, "is for --seen")
    common: dict[str, Any] = {
        "split": split, "folders": folders, "overwrite": overwrite,
    }  # fmt: skip
    if miss is not None:
        from ctma.evaluation.misses import MissSettings

        settings = MissSettings(miss=miss, sure=sure, of=of, scenes=scenes, protocol=protocol)
        _limit(predictor, data, output, common | {"settings": settings}, as_json)
        return
    refuse_options(context, _OF_MISSES, "is for --miss")
    _calibrate(predictor, data, output, common | {"protocol": protocol}, as_json)


def _remember(
    predictor: Predictor,
    data: list[Path],
    output: Path,
    names: str | None,
    folders: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    from ctma.evaluation.seen import remember_seen

    with progress("Looking at images") as on_progress:
        seen = remember_seen(
            predictor, data, output, names=names, folders=folders, overwrite=overwrite,
            on_progress=on_progress,
        )  # fmt: skip
    if as_json:
        print_json({"checkpoint": str(output), "descriptions": len(seen.centres)})
        return
    say(f"{len(seen.centres)} descriptions of the training images; wrote {output}")


def _limit(
    predictor: Predictor, data: list[Path], output: Path, options: dict[str, Any], as_json: bool
) -> None:
    from ctma.evaluation.misses import limit_misses

    with progress("Looking at scenes") as on_progress:
        limit = limit_misses(predictor, data, output, **options, on_progress=on_progress)
    if as_json:
        print_json(asdict(limit))
        return
    say(f"threshold {limit.threshold:.3f}, {limit.former_threshold:.3f} before")
    sure = "in expectation" if limit.sure is None else f"with confidence {limit.sure:g}"
    say(
        f"at most {limit.miss:g} of a scene's changed {limit.of} missed on average, {sure}, on "
        f"scenes like the {limit.scenes} seen ({counted(limit.pairs, 'pair')})"
    )
    say(
        f"there: {limit.missed:.3f} missed, precision {limit.precision:.3f}; before: "
        f"{limit.former_missed:.3f} missed, precision {limit.former_precision:.3f}"
    )
    say(f"wrote {output}")


def _calibrate(
    predictor: Predictor, data: list[Path], output: Path, options: dict[str, Any], as_json: bool
) -> None:
    from ctma.checkpoints.header import read_header
    from ctma.evaluation.calibration import calibrate as run

    with progress("Calibrating") as on_progress:
        calibration = run(predictor, data, output, **options, on_progress=on_progress)
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
    said, right = calibration.error_of_objects_before, calibration.error_of_objects_after
    if said is not None and right is not None:
        say(
            f"objects: {100 * said:.1f} % between what is said and what is right before, "
            f"{100 * right:.1f} % after"
        )
    before, after = 100 * calibration.f1_before, 100 * calibration.f1_after
    say(f"F1 {before:.2f} at 0.5 before, {after:.2f} after")
    for way, share in calibration.agreement.items():
        say(f"{way}: the mask of float32 on {100 * share:.3f} % of the pixels")
    say(f"wrote {output}")

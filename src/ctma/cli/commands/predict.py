"""``ctma predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctma.cli.commands.options import Checkpoint, Device, Json, Precision, Threshold
from ctma.cli.output import print_json, progress, say


def predict(
    before: Annotated[Path, typer.Argument(help="An image, or a folder of images.")],
    after: Annotated[Path, typer.Argument(help="The same kind, at the later date.")],
    checkpoint: Checkpoint,
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder.", metavar="DIR")],
    threshold: Threshold = None,
    protocol: Annotated[str, typer.Option(help="auto, whole, crops or sliding.")] = "auto",
    device: Device = "auto",
    precision: Precision = "32-true",
    as_json: Json = False,
) -> None:
    """Find what changed: a mask and a probability for each pair of images."""
    from ctma.checkpoints import load_model
    from ctma.prediction import predict_files

    model = load_model(checkpoint)
    with progress("Predicting") as on_progress:
        results = predict_files(
            before,
            after,
            model,
            output,
            device=device,
            on_done=on_progress,
            threshold=threshold,
            protocol_name=protocol,
            precision=precision,
        )
    if as_json:
        print_json(results)
        return
    for result in results[:10]:
        say(f"{result['mask']}: {100 * result['changed_share']:.2f} % changed")
    say(f"{len(results)} masks in {output / 'mask'}, probabilities in {output / 'probability'}")

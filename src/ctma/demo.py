"""The whole path on synthetic pairs, in a few minutes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctma.checkpoints import load_model
from ctma.data.synthetic import write_synthetic
from ctma.devices import fast_precision
from ctma.evaluation.report import evaluate_checkpoint
from ctma.prediction import predict_files
from ctma.training.engine import train
from ctma.training.recipes import load_recipe

COUNTS = {"train": 320, "val": 24, "test": 48}
SIZE = 128


@dataclass(frozen=True)
class DemoRun:
    """What a demo leaves behind.

    Attributes:
        record: The score on held-out pairs.
        checkpoint: The trained weights.
        mask: The mask of one held-out pair.
        sheet: Pictures of held-out pairs.
        seconds: How long everything took.
    """

    record: dict[str, Any]
    checkpoint: Path
    mask: Path
    sheet: Path
    seconds: float


def run_demo(
    output: str | Path, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> DemoRun:
    """Draws synthetic pairs, trains CTMA-S on them, scores it, predicts and draws.

    Args:
        output: A folder that does not exist yet.
        on_progress: Called while the pairs are drawn.

    Raises:
        OutputError: If the folder exists or cannot be written.
    """
    start = time.monotonic()
    output = Path(output)
    data = output / "data"
    write_synthetic(data, COUNTS, size=SIZE, on_progress=on_progress)
    trained = train(load_recipe("demo/ctma-s"), data, output / "run", precision=fast_precision())
    report = evaluate_checkpoint(
        trained.best, data, "test", protocol_name="whole", figures=output / "figures"
    )
    pair = data / "test"
    predicted = predict_files(
        pair / "A/test_0000.png",
        pair / "B/test_0000.png",
        load_model(trained.best),
        output / "prediction",
    )
    return DemoRun(
        record=report.record,
        checkpoint=trained.best,
        mask=Path(str(predicted[0]["mask"])),
        sheet=report.files[-1],
        seconds=time.monotonic() - start,
    )

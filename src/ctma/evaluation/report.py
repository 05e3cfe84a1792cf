"""A checkpoint's score on a data folder, with masks and pictures."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ctma.checkpoints import find_checkpoint, load_model, shipped_models
from ctma.data.dataset import find_label_scale
from ctma.data.images import save_image
from ctma.data.readers import data_fingerprint, find_pairs
from ctma.devices import find_device
from ctma.evaluation.evaluate import Judged, evaluate
from ctma.figures.sheets import error_map, probability_map, save_sheet
from ctma.files import check_writable, file_fingerprint, write_json
from ctma.models.views import FlipAverage, enlarged
from ctma.resolution import check_given_distance, coarseness_warning, enlargement

SHEET_PAIRS = 6


@dataclass
class Report:
    """What an evaluation gave.

    Attributes:
        record: The scores with split, protocol, threshold and fingerprints.
        files: What was written.
    """

    record: dict[str, Any]
    files: list[Path] = field(default_factory=list)


def evaluate_checkpoint(
    checkpoint: str | Path,
    data: str | Path,
    split: str,
    *,
    protocol_name: str = "crops",
    threshold: float | None = None,
    tta: bool = False,
    ground_sample_distance: float | None = None,
    subset: str = "real",
    masks: Path | None = None,
    figures: Path | None = None,
    output: Path | None = None,
    batch_size: int = 1,
    workers: int = 0,
    device: str = "auto",
    precision: str = "32-true",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_warning: Callable[[str], None] = lambda line: None,
    **arguments: Any,
) -> Report:
    """Scores a checkpoint on one split of a data folder and saves the score.

    Args:
        checkpoint: A checkpoint of ours, the name of a shipped one, or an original ``.pth``.
        data: A data folder.
        split: Which split.
        protocol_name: ``"crops"``, ``"whole"`` or ``"sliding"``.
        threshold: Change is where the probability exceeds it; the checkpoint's by default.
        tta: Average over flipped views; takes four times as long.
        ground_sample_distance: Metres a pixel of the images; where given, the network sees
            them enlarged or reduced to the distance it was trained at.
        subset: For SVCD, which sub-set.
        masks: A folder for masks, 0/255, one PNG a pair.
        figures: A folder for a sheet of the pairs with the most change or error.
        output: Where the scores go, ``scores-DATA-SPLIT-PROTOCOL.json`` beside the checkpoint
            (for a shipped one in the working directory) by default, with the threshold where
            it is not the checkpoint's, and with whatever else is not the default.
        batch_size: Pairs at a time.
        workers: Loader processes.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``.
        precision: ``"32-true"`` or ``"bf16-mixed"``.
        on_progress: Called after every pair with how many are done, and of how many.
        on_warning: Called with a line where the pixels are too coarse for the network.
        **arguments: For an original ``.pth``, what it does not say, such as ``fusion``.

    Raises:
        CtmaError: For anything that a user can mend; see ``load_model``, ``find_pairs``
            and ``evaluate``.
    """
    shipped = str(checkpoint) in shipped_models()
    checkpoint = find_checkpoint(checkpoint)
    network = load_model(checkpoint, **arguments).to(find_device(device))
    check_given_distance(network, ground_sample_distance)
    if line := coarseness_warning(network, ground_sample_distance):
        on_warning(line)
    ratio = enlargement(network, ground_sample_distance)
    seen = enlarged(network, ratio)
    pairs = find_pairs(data, split, subset=subset)
    default = network.header.threshold
    threshold = default if threshold is None else threshold
    folder = Path() if shipped else checkpoint.parent
    parts = (
        Path(os.path.abspath(data)).name,
        subset if subset != "real" else "",
        split,
        protocol_name,
        f"{threshold:g}" if threshold != default else "",
        "tta" if tta else "",
        f"{ground_sample_distance:g}m" if ground_sample_distance else "",
        precision if precision != "32-true" else "",
    )
    way = "-".join(part for part in parts if part)
    output = output or folder / f"scores-{way}.json"
    check_writable(output)
    examples = _Examples()
    done = 0

    def on_pair(judged: Judged) -> None:
        nonlocal done
        done += 1
        if masks is not None:
            save_image(masks / f"{judged.pair.name}.png", judged.mask * np.uint8(255))
        examples.offer(judged)
        on_progress(done, len(pairs))

    scores = evaluate(
        FlipAverage(seen) if tta else seen,
        pairs,
        protocol_name=protocol_name,
        threshold=threshold,
        batch_size=batch_size,
        workers=workers,
        precision=precision,
        on_pair=on_pair,
    )
    record = {
        "split": split,
        "protocol": protocol_name,
        "threshold": threshold,
        "tta": tta,
        "ground_sample_distance": ground_sample_distance,
        "enlargement": ratio,
        "arithmetic": precision,
        "checkpoint": file_fingerprint(checkpoint),
        "arguments": network.header.arguments,
        "data": data_fingerprint(pairs),
        "pairs": len(pairs),
        "labels": f"0/{find_label_scale(pairs)}",
        **scores.as_dict(),
    }
    write_json(output, record)
    report = Report(record, [output] + ([masks] if masks else []))
    if figures is not None:
        sheet = figures / f"{way}.png"
        examples.save(sheet, f"{split}: F1 {100 * scores.f1:.2f}, {protocol_name}")
        report.files.append(sheet)
    return report


class _Examples:
    """Keeps the pairs with the most change found and those with the most pixels wrong."""

    def __init__(self) -> None:
        self.found: list[tuple[int, Judged]] = []
        self.wrong: list[tuple[int, Judged]] = []

    def offer(self, judged: Judged) -> None:
        both = int(np.sum(judged.mask & judged.change))
        wrong = int(np.sum(judged.mask != judged.change))
        self.found = _largest([*self.found, (both, judged)])
        self.wrong = _largest([*self.wrong, (wrong, judged)])

    def save(self, path: Path, title: str) -> None:
        half = SHEET_PAIRS // 2
        chosen = [judged for _, judged in self.found[:half]]
        names = {judged.pair.name for judged in chosen}
        chosen += [judged for _, judged in self.wrong if judged.pair.name not in names][:half]
        rows = [
            {
                "before": judged.before,
                "after": judged.after,
                "label": judged.change,
                "probability": probability_map(judged.probability),
                "mask": judged.mask,
                "found, claimed (red), missed (blue)": error_map(judged.mask, judged.change),
            }
            for judged in chosen
        ]
        save_sheet(path, rows, title, [judged.pair.name for judged in chosen])


def _largest(ranked: list[tuple[int, Judged]]) -> list[tuple[int, Judged]]:
    return sorted(ranked, key=lambda item: -item[0])[:SHEET_PAIRS]

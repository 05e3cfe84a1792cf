"""A checkpoint's score on a data folder, with masks and pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ctma.checkpoints.header import is_shipped
from ctma.data.images import save_image
from ctma.data.pairs import Pair, pair_files
from ctma.data.readers import find_data_name, find_pairs
from ctma.errors import OutputError, first_line, warn
from ctma.evaluation.records import HowScored, ScoreRecord
from ctma.evaluation.reliability import ObjectTally
from ctma.evaluation.scoring import Judged, Scoring, score_pairs, tell_how
from ctma.figures.curves import save_reliability
from ctma.figures.sheets import error_map, probability_map, save_sheet
from ctma.files import check_writable, refuse_inputs, write_json
from ctma.inference.predictor import Model, Predictor, as_predictor
from ctma.inference.resolution import coarseness_warning
from ctma.settings import check_kind
from ctma.types import IGNORED, Progress, ignore

SHEET_PAIRS = 6


@dataclass(frozen=True)
class EvaluationResult:
    """The result of an evaluation.

    Attributes:
        record: The scores, and how they were computed.
        files: The files and folders that were written.
    """

    record: ScoreRecord
    files: list[Path] = field(default_factory=list)


def evaluate(
    model: Model,
    data: str | Path,
    split: str = "test",
    scoring: Scoring | None = None,
    *,
    folders: str | None = None,
    save_masks: str | Path | None = None,
    figures: str | Path | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    on_progress: Progress = ignore,
) -> EvaluationResult:
    """Scores a model on one split of a data folder and saves the score.

    Args:
        model: A predictor, as from ``ctma.load``, a network in memory, or a checkpoint by name or
            path.
        data: A data folder.
        split: The split to score.
        scoring: How to score; the default settings if ``None``.
        folders: The folder names of another layout, as ``before=X,after=Y,change=Z``.
        save_masks: A folder for masks, 0/255, one PNG per pair.
        figures: A folder for a sheet of the pairs with the most change or error.
        output: The file for the scores. The default is beside the checkpoint, or in the working
            folder for a shipped checkpoint: ``scores-CHECKPOINT-DATA-SPLIT-PROTOCOL.json``,
            where settings other than the defaults follow PROTOCOL. A network in memory has no
            default file.
        overwrite: Replace scores of other checkpoints or data, or scores in ``output``.
        on_progress: Called after every pair with the number of pairs done and the total.

    Raises:
        CtmaError: For any problem that a user can solve.
    """
    scoring = scoring or Scoring()
    check_kind(scoring, Scoring)
    predictor = as_predictor(model)
    network = predictor.network
    if coarse := coarseness_warning(network.usage, scoring.ground_sample_distance):
        warn(coarse)
    pairs = find_pairs(data, split, folders=folders)
    way = _name_way(data, split, scoring, predictor)
    how = tell_how(predictor, pairs, scoring, split=split, data_name=find_data_name(data))
    path = _choose_output(output, _default_output(predictor, way), how, overwrite)
    if path is not None:
        refuse_inputs([*filter(None, [predictor.source]), *pair_files(pairs)], [path])
        check_writable(path)
    objects = None if figures is None else ObjectTally()
    judge = _Judge(pairs, save_masks, objects, on_progress)
    record = ScoreRecord(how, score_pairs(predictor, pairs, scoring, on_pair=judge))
    files = [] if path is None else [path]
    if path is not None:
        write_json(path, record.as_dict())
    if save_masks is not None:
        files.append(Path(save_masks))
    if figures is not None and objects is not None:
        title = f"{split}: F1 {100 * record.scores.f1:.2f}, {scoring.protocol}"
        files += judge.save_examples(Path(figures) / f"{way}.png", title)
        bins, picture = objects.scaled(predictor.usage).bins(), Path(figures) / f"{way}-objects.png"
        files += _draw(picture, lambda: save_reliability(picture, bins, title))
    return EvaluationResult(record, files)


def _default_output(predictor: Predictor, way: str) -> Path | None:
    """A file beside the checkpoint; here if shipped; ``None`` for a network in memory."""
    source = predictor.source
    if source is None:
        return None
    folder = Path() if is_shipped(source) else source.parent
    return folder / f"scores-{source.stem}-{way}.json"


SAME = ("checkpoint_name", "checkpoint", "data_name", "data", "arguments")
"""The fields that must be equal if scores replace others without ``overwrite``."""


def _choose_output(
    output: str | Path | None, default: Path | None, how: HowScored, overwrite: bool
) -> Path | None:
    """The file for the scores, if no other content is lost.

    Without ``overwrite``, only the default file may exist, with scores of the same checkpoint and
    data. A file without scores is never replaced.
    """
    path = default if output is None else Path(output)
    if path is None or not path.exists():
        return path
    old_record = _read_record(path)
    if old_record is None:
        raise OutputError(f"{path}: is there already and holds no scores; name another `output`")
    new_record = how.as_dict()
    same = output is None and all(old_record.get(name) == new_record[name] for name in SAME)
    if not overwrite and not same:
        raise OutputError(
            f"{path}: holds scores already; name another file as `output`, or replace them with "
            "`overwrite`"
        )
    return path


def _read_record(path: Path) -> dict[str, Any] | None:
    """The scores in a file, ``None`` if the file holds no scores."""
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, OSError):
        return None
    return record if isinstance(record, dict) and "f1" in record else None


def _name_way(data: str | Path, split: str, scoring: Scoring, predictor: Predictor) -> str:
    """The part of the file name that lists data, split, protocol and non-default settings."""
    threshold, distance = scoring.threshold, scoring.ground_sample_distance
    running = predictor.running
    parts = (
        find_data_name(data),
        split,
        scoring.protocol,
        f"{threshold:g}" if threshold not in (None, predictor.usage.threshold) else "",
        "tta" if running.tta else "",
        f"{distance:g}m" if distance else "",
        *(how for how in (running.engine, running.precision) if how != "auto"),
    )
    return "-".join(part for part in parts if part)


class _Judge:
    """Saves masks; keeps the pairs with the most change found and with the most wrong pixels.

    Args:
        pairs: The pairs to judge.
        masks: A folder for masks, if any.
        objects: Counts the objects of masks, if any.
        on_progress: Called with the number of pairs done and the total.

    Raises:
        OutputError: If a mask would replace an image or a label.
    """

    def __init__(
        self,
        pairs: list[Pair],
        masks: str | Path | None,
        objects: ObjectTally | None,
        on_progress: Progress,
    ) -> None:
        self.total = len(pairs)
        self.masks = None if masks is None else Path(masks)
        if self.masks is not None:
            written = [self.masks / f"{pair.name}.png" for pair in pairs]
            refuse_inputs(pair_files(pairs), written)
        self.on_progress = on_progress
        self.done = 0
        self.found: list[tuple[int, Judged]] = []
        self.wrong: list[tuple[int, Judged]] = []
        self.objects = objects

    def __call__(self, judged: Judged) -> None:
        self.done += 1
        if self.masks is not None:
            save_image(self.masks / f"{judged.pair.name}.png", judged.mask * np.uint8(255))
        changed = judged.change == 1
        both = int(np.sum(judged.mask & changed))
        wrong = int(np.sum((judged.mask != changed) & (judged.change != IGNORED)))
        if self.objects is not None:
            self.objects.add(judged)
        self.found = _keep_largest([*self.found, (both, judged)])
        self.wrong = _keep_largest([*self.wrong, (wrong, judged)])
        self.on_progress(self.done, self.total)

    def save_examples(self, path: Path, title: str) -> list[Path]:
        """Draws a sheet and returns the written files; warns if drawing fails."""
        half = SHEET_PAIRS // 2
        chosen = [judged for _, judged in self.found[:half]]
        names = {judged.pair.name for judged in chosen}
        chosen += [judged for _, judged in self.wrong if judged.pair.name not in names][:half]
        rows = [
            {
                "before": judged.before,
                "after": judged.after,
                "label": judged.change == 1,
                "probability\nblue 0, red 1": probability_map(judged.probability),
                "mask": judged.mask,
                "found, claimed (red), missed (blue)": error_map(judged.mask, judged.change),
            }
            for judged in chosen
        ]
        names_of = [judged.pair.name for judged in chosen]
        return _draw(path, lambda: save_sheet(path, rows, title, names_of))


def _draw(path: Path, draw: Callable[[], object]) -> list[Path]:
    """Draws a picture; the score is valid even if the picture fails."""
    try:
        draw()
    except Exception as error:  # noqa: BLE001
        warn(f"{path}: could not be drawn ({first_line(error)})")
        return []
    return [path]


def _keep_largest(ranked: list[tuple[int, Judged]]) -> list[tuple[int, Judged]]:
    return sorted(ranked, key=lambda item: -item[0])[:SHEET_PAIRS]

"""A checkpoint's score on a data folder, with masks and pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ctma.checkpoints.header import find_checkpoint, shipped_models
from ctma.checkpoints.store import load_telling
from ctma.data.images import save_image
from ctma.data.pairs import Pair, pair_files
from ctma.data.readers import data_fingerprint, find_pairs
from ctma.devices import find_device
from ctma.errors import OutputError, first_line
from ctma.evaluation.scoring import Judged, Scoring, record_score, score_pairs
from ctma.figures.sheets import error_map, probability_map, save_sheet
from ctma.files import check_writable, file_fingerprint, refuse_inputs, write_json
from ctma.inference.resolution import coarseness_warning
from ctma.models.base import ChangeNetwork
from ctma.settings import change_settings
from ctma.types import Progress, Say, ignore

SHEET_PAIRS = 6


@dataclass
class Report:
    """What an evaluation gave.

    Attributes:
        record: The scores with how they were taken, see ``ScoreRecord``.
        files: What was written.
    """

    record: dict[str, Any]
    files: list[Path] = field(default_factory=list)


def evaluate(
    checkpoint: str | Path,
    data: str | Path,
    split: str = "test",
    scoring: Scoring | None = None,
    *,
    subset: str = "real",
    folders: str | None = None,
    masks: str | Path | None = None,
    figures: str | Path | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    batch_size: int = 1,
    workers: int = 0,
    device: str = "auto",
    arguments: Mapping[str, Any] | None = None,
    on_progress: Progress = ignore,
    on_warning: Say = ignore,
    **changes: Any,
) -> Report:
    """Scores a checkpoint on one split of a data folder and saves the score.

    Args:
        checkpoint: A checkpoint of ours, the name of a shipped one, or an original ``.pth``.
        data: A data folder.
        split: Which split.
        scoring: How; the defaults if none is given.
        subset: For SVCD, which sub-set.
        folders: Of another layout, ``before=X,after=Y,change=Z``: what its folders are called.
        masks: A folder for masks, 0/255, one PNG a pair.
        figures: A folder for a sheet of the pairs with the most change or error.
        output: Where the scores go, by default ``scores-CHECKPOINT-DATA-SPLIT-PROTOCOL.json``
            beside the checkpoint, or here for a shipped one, with whatever is not the default.
        overwrite: Replace scores of other checkpoints or data, or what is there by that name.
        batch_size: Pairs at a time.
        workers: Loader processes.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``.
        arguments: For an original ``.pth``, what it does not say, such as ``fusion``.
        on_progress: Called after every pair with how many are done, and of how many.
        on_warning: Called with a line where the pixels are too coarse for the network.
        **changes: Fields of :class:`Scoring`, such as ``protocol="whole"``, that take the place
            of those in ``scoring``.

    Raises:
        CtmaError: For anything that a user can mend.
    """
    scoring = change_settings(Scoring, scoring, changes)
    path = find_checkpoint(checkpoint)
    network = _load(path, arguments or {}, scoring, on_warning).to(find_device(device))
    pairs = find_pairs(data, split, subset=subset, folders=folders)
    way = _name_way(data, subset, split, scoring, network)
    names = _names(path, data, pairs)
    default = _default_output(checkpoint, path, way)
    known = names | {"arguments": network.arguments}
    output = _choose_output(output, default, known, overwrite, [path, *pair_files(pairs)])
    judge = _Judge(pairs, masks, on_progress, on_warning)
    loading = {"batch_size": batch_size, "workers": workers}
    scores = score_pairs(network, pairs, scoring, on_pair=judge, **loading)
    record = record_score(network, pairs, scoring, scores.as_dict(), split=split, **names).as_dict()
    write_json(output, record)
    files = [output, *([Path(masks)] if masks else [])]
    if figures is not None:
        title = f"{split}: F1 {100 * scores.f1:.2f}, {scoring.protocol}"
        files += judge.save_examples(Path(figures) / f"{way}.png", title)
    return Report(record, files)


def _load(
    path: Path, arguments: Mapping[str, Any], scoring: Scoring, on_warning: Say
) -> ChangeNetwork:
    network = load_telling(path, arguments, on_warning)
    if coarse := coarseness_warning(network, scoring.ground_sample_distance):
        on_warning(coarse)
    return network


def _names(checkpoint: Path, data: str | Path, pairs: list[Pair]) -> dict[str, Any]:
    """Names and fingerprints for a record."""
    return {
        "checkpoint_name": checkpoint.name,
        "checkpoint": file_fingerprint(checkpoint),
        "data_name": _name_of(data),
        "data": data_fingerprint(pairs),
    }


def _default_output(checkpoint: str | Path, path: Path, way: str) -> Path:
    folder = Path() if str(checkpoint) in shipped_models() else path.parent
    return folder / f"scores-{path.stem}-{way}.json"


def _choose_output(
    output: str | Path | None,
    default: Path,
    names: dict[str, Any],
    overwrite: bool,
    inputs: list[Path],
) -> Path:
    """Where scores go, if nothing is lost there.

    Only the default may be there already, with scores of the same checkpoint and data; and only
    scores are replaced.
    """
    path = default if output is None else Path(output)
    refuse_inputs(inputs, [path])
    former = _read_record(path) if path.exists() else names
    if former is None:
        raise OutputError(f"{path}: is there already and holds no scores; name another `output`")
    names = json.loads(json.dumps(names))
    same = output is None and all(former.get(name) == names[name] for name in names)
    if path.exists() and not overwrite and not same:
        raise OutputError(
            f"{path}: holds scores already; name another file as `output`, or replace them with "
            "`overwrite`"
        )
    check_writable(path)
    return path


def _read_record(path: Path) -> dict[str, Any] | None:
    """The scores in a file, if it holds some."""
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, OSError):
        return None
    return record if isinstance(record, dict) and "f1" in record else None


def _name_of(data: str | Path) -> str:
    return Path(os.path.abspath(data)).name


def _name_way(
    data: str | Path, subset: str, split: str, scoring: Scoring, network: ChangeNetwork
) -> str:
    """What tells this score from others in the name of its file: all that is not the default."""
    threshold, distance = scoring.threshold, scoring.ground_sample_distance
    parts = (
        _name_of(data),
        subset if subset != "real" else "",
        split,
        scoring.protocol,
        f"{threshold:g}" if threshold not in (None, network.usage.threshold) else "",
        "tta" if scoring.tta else "",
        f"{distance:g}m" if distance else "",
        *(how for how in (scoring.engine, scoring.precision) if how != "auto"),
    )
    return "-".join(part for part in parts if part)


class _Judge:
    """Saves masks; keeps the pairs with the most change found and the most pixels wrong.

    Args:
        pairs: Those that will come.
        masks: Where masks go, if anywhere.
        on_progress: Told how many are done.
        on_warning: Told what hinders a picture.

    Raises:
        OutputError: If a mask would replace an image or a label.
    """

    def __init__(
        self,
        pairs: list[Pair],
        masks: str | Path | None,
        on_progress: Progress,
        on_warning: Say,
    ) -> None:
        self.on_warning = on_warning
        self.total = len(pairs)
        self.masks = None if masks is None else Path(masks)
        if self.masks is not None:
            written = [self.masks / f"{pair.name}.png" for pair in pairs]
            refuse_inputs(pair_files(pairs), written)
        self.on_progress = on_progress
        self.done = 0
        self.found: list[tuple[int, Judged]] = []
        self.wrong: list[tuple[int, Judged]] = []

    def __call__(self, judged: Judged) -> None:
        self.done += 1
        if self.masks is not None:
            save_image(self.masks / f"{judged.pair.name}.png", judged.mask * np.uint8(255))
        both = int(np.sum(judged.mask & judged.change))
        wrong = int(np.sum(judged.mask != judged.change))
        self.found = _keep_largest([*self.found, (both, judged)])
        self.wrong = _keep_largest([*self.wrong, (wrong, judged)])
        self.on_progress(self.done, self.total)

    def save_examples(self, path: Path, title: str) -> list[Path]:
        """Draws a sheet, if it can be drawn; gives what was written."""
        half = SHEET_PAIRS // 2
        chosen = [judged for _, judged in self.found[:half]]
        names = {judged.pair.name for judged in chosen}
        chosen += [judged for _, judged in self.wrong if judged.pair.name not in names][:half]
        rows = [
            {
                "before": judged.before,
                "after": judged.after,
                "label": judged.change,
                "probability\nblue 0, red 1": probability_map(judged.probability),
                "mask": judged.mask,
                "found, claimed (red), missed (blue)": error_map(judged.mask, judged.change),
            }
            for judged in chosen
        ]
        try:
            save_sheet(path, rows, title, [judged.pair.name for judged in chosen])
        except Exception as error:  # noqa: BLE001
            # Whatever hinders a picture, the score is taken.
            self.on_warning(f"{path}: could not be drawn ({first_line(error)})")
            return []
        return [path]


def _keep_largest(ranked: list[tuple[int, Judged]]) -> list[tuple[int, Judged]]:
    return sorted(ranked, key=lambda item: -item[0])[:SHEET_PAIRS]

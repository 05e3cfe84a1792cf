"""Scores masks from any source by the same rules as networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctma.data.pairs import Coding, Pair, find_coding, read_change
from ctma.data.readers import data_fingerprint, find_data_name, find_pairs, images_by_name
from ctma.errors import DataError
from ctma.evaluation.metrics import sum_scores
from ctma.evaluation.records import HowScored, ScoreRecord
from ctma.evaluation.tally import PairScore, describe
from ctma.files import (
    check_writable,
    file_fingerprint,
    fingerprint,
    refuse_existing,
    write_json,
)
from ctma.types import Progress, ignore

PROTOCOL = "masks"
"""The protocol, engine and precision in records of masks from an unknown source."""


@dataclass(frozen=True)
class MaskScores:
    """Scores of masks, pair by pair.

    Attributes:
        record: The scores over all pixels, and how they were computed.
        pairs: The counts of each pair.
        file: The file with the scores, if any.
    """

    record: ScoreRecord
    pairs: list[PairScore]
    file: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values by name, as ``scores-….json`` holds them."""
        return self.record.as_dict() | describe(self.pairs)


def evaluate_masks(
    masks: str | Path,
    data: str | Path,
    split: str = "test",
    *,
    folders: str | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    on_progress: Progress = ignore,
) -> MaskScores:
    """Scores masks against the labels of one split, and saves the score.

    Args:
        masks: A folder with one image per pair, named like the pair. 0 is no change; 1 or 255 is
            change.
        data: A data folder.
        split: The split to score.
        folders: The folder names of another layout, see ``evaluate``.
        output: The file for the scores. The default is ``scores-MASKS-DATA-SPLIT-masks.json`` in
            the working folder.
        overwrite: Replace an existing file.
        on_progress: Called after every pair with the number of pairs done and the total.

    Raises:
        DataError: If a mask is missing, has another size, or holds other values.
        ImageError: If an image is unreadable.
        OutputError: If the file cannot be written, or exists already.
    """
    masks = Path(masks)
    names = "-".join([masks.resolve().name, find_data_name(data), split, PROTOCOL])
    path = Path(f"scores-{names}.json") if output is None else Path(output)
    refuse_existing(path, overwrite)
    check_writable(path)
    pairs = find_pairs(data, split, folders=folders)
    files = _find_masks(masks, pairs)
    coding = find_coding(pairs)
    drawn = [Pair(pair.name, pair.before, pair.after, files[pair.name]) for pair in pairs]
    mask_coding = find_coding(drawn)
    if mask_coding.ignored is not None:
        raise DataError(f"{masks}: masks of 0, 1 and 255; write change as 255, all else as 0")
    scored: list[PairScore] = []
    for pair, mask in zip(pairs, drawn, strict=True):
        scored.append(_score(pair, mask, coding, mask_coding))
        on_progress(len(scored), len(pairs))
    how = HowScored(
        network=masks.resolve().name,
        checkpoint=fingerprint(file_fingerprint(files[pair.name]) for pair in pairs),
        data_name=find_data_name(data),
        data=data_fingerprint(pairs),
        pairs=len(pairs),
        labels=str(coding),
        split=split,
        protocol=PROTOCOL,
        threshold=0.5,
        arithmetic=PROTOCOL,
        engine=PROTOCOL,
    )
    scores = MaskScores(ScoreRecord(how, sum_scores(one.pixels for one in scored)), scored, path)
    write_json(path, scores.as_dict())
    return scores


def _find_masks(folder: Path, pairs: list[Pair]) -> dict[str, Path]:
    """The mask of each pair, by the pair's name."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of masks")
    files = images_by_name(folder)
    if missing := [pair.name for pair in pairs if pair.name not in files]:
        raise DataError(f"{folder}: no mask {missing[0]} ({len(missing)} of {len(pairs)} missing)")
    return files


def _score(pair: Pair, mask: Pair, coding: Coding, mask_coding: Coding) -> PairScore:
    assert pair.change is not None
    assert mask.change is not None
    change = read_change(pair.change, coding)
    claimed = read_change(mask.change, mask_coding)
    if claimed.shape != change.shape:
        sizes = " x ".join(map(str, claimed.shape)), " x ".join(map(str, change.shape))
        raise DataError(f"{mask.change}: is {sizes[0]}, its label {sizes[1]}")
    return PairScore.of(pair.name, claimed, change)

"""Scores of masks that anybody made, by the rules that networks are scored by."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ctma._version import __version__
from ctma.data.images import read_label
from ctma.data.pairs import Pair, binary_label, find_label_scale
from ctma.data.readers import data_fingerprint, find_pairs, images_by_name
from ctma.errors import DataError
from ctma.evaluation.metrics import Scores
from ctma.evaluation.scoring import ScoreRecord
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
"""How a score is taken whose maker alone knows how its masks were made."""


def evaluate_masks(
    masks: str | Path,
    data: str | Path,
    split: str = "test",
    *,
    subset: str = "real",
    folders: str | None = None,
    on_progress: Progress = ignore,
) -> dict[str, Any]:
    """Scores masks against the labels of one split.

    Args:
        masks: A folder of images, one a pair and called like it; 0 is stillness, and change is
            1 or 255.
        data: A data folder.
        split: Which split.
        subset: For SVCD, which sub-set.
        folders: As in ``evaluate``.
        on_progress: Called after every pair with how many are done, and of how many.

    Returns:
        A record as of networks, with the counts of every pair and of objects.

    Raises:
        DataError: If a mask is missing, of another size, or holds other values.
        ImageError: If an image is unreadable.
    """
    masks = Path(masks)
    pairs = find_pairs(data, split, subset=subset, folders=folders)
    if not masks.is_dir():
        raise DataError(f"{masks}: no such folder of masks")
    files = images_by_name(masks)
    if missing := [pair.name for pair in pairs if pair.name not in files]:
        raise DataError(f"{masks}: no mask {missing[0]} ({len(missing)} of {len(pairs)} missing)")
    scale = find_label_scale(pairs)
    own = [Pair(pair.name, pair.before, pair.after, files[pair.name]) for pair in pairs]
    own_scale = find_label_scale(own)
    found = []
    for pair, mask in zip(pairs, own, strict=True):
        found.append(_score(pair, mask, scale, own_scale))
        on_progress(len(found), len(pairs))
    counts = [vars(one.pixels) for one in found]
    scores = Scores(**{name: sum(count[name] for count in counts) for name in counts[0]})
    record = ScoreRecord(
        network=masks.resolve().name,
        arguments={},
        checkpoint_name=None,
        checkpoint=fingerprint(file_fingerprint(files[pair.name]) for pair in pairs),
        data_name=Path(data).resolve().name,
        data=data_fingerprint(pairs),
        pairs=len(pairs),
        labels=f"0/{scale}",
        split=split,
        protocol=PROTOCOL,
        threshold=0.5,
        tta=False,
        ground_sample_distance=None,
        enlargement=1.0,
        arithmetic=PROTOCOL,
        engine=PROTOCOL,
        ctma_version=__version__,
        date=datetime.now(UTC).date().isoformat(),
        results=scores.as_dict(),
    )
    return record.as_dict() | describe(found)


def save_mask_scores(
    masks: str | Path,
    data: str | Path,
    split: str = "test",
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    **options: Any,
) -> tuple[Path, dict[str, Any]]:
    """Scores masks and saves the score; gives the file and the record.

    Args:
        masks: See :func:`evaluate_masks`, as all that follows but for these two.
        data: A data folder.
        split: Which split.
        output: Where the scores go, by default ``scores-MASKS-DATA-SPLIT-masks.json`` here.
        overwrite: Replace what is there.
        **options: For :func:`evaluate_masks`.

    Raises:
        OutputError: If it cannot be written, or is there already.
        CtmaError: As :func:`evaluate_masks` does.
    """
    names = "-".join([Path(masks).resolve().name, Path(data).resolve().name, split, PROTOCOL])
    path = Path(f"scores-{names}.json") if output is None else Path(output)
    refuse_existing(path, overwrite)
    check_writable(path)
    record = evaluate_masks(masks, data, split, **options)
    write_json(path, record)
    return path, record


def _score(pair: Pair, mask: Pair, scale: int, mask_scale: int) -> PairScore:
    assert pair.change is not None
    assert mask.change is not None
    change = binary_label(read_label(pair.change), scale, pair.change)
    claimed = binary_label(read_label(mask.change), mask_scale, mask.change)
    if claimed.shape != change.shape:
        sizes = " x ".join(map(str, claimed.shape)), " x ".join(map(str, change.shape))
        raise DataError(f"{mask.change}: is {sizes[0]}, its label {sizes[1]}")
    return PairScore.of(pair.name, claimed, change)

"""What all choices on validation data have in common: their data, their split, their output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ctma.checkpoints.header import RELEASED_SUFFIXES, find_checkpoint, refuse_exported
from ctma.data.pairs import Pair
from ctma.data.readers import find_data_name, find_pairs
from ctma.errors import DataError, SettingError
from ctma.files import check_writable, refuse_existing
from ctma.inference.predictor import Model, Predictor, as_predictor


class Choice(NamedTuple):
    """What something is chosen on.

    Attributes:
        predictor: The network, and how it runs; ``auto`` precision is float32.
        roots: The data folders.
        pairs: The pairs of each folder.
    """

    predictor: Predictor
    roots: list[Path]
    pairs: list[list[Pair]]


def open_choice(
    model: Model,
    data: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    split: str,
    folders: str | None,
    overwrite: bool,
) -> Choice:
    """Opens a network and its validation data, and checks the output before any work.

    Raises:
        CtmaError: If the split or the output is not allowed, or the network or the data cannot be
            read.
    """
    _check_split(split)
    check_output(model, Path(output), overwrite)
    predictor = as_predictor(model)
    if predictor.running.precision == "auto":
        predictor = predictor.running_as(precision="float32")
    roots = name_roots(data)
    pairs = [find_pairs(root, split, folders=folders) for root in roots]
    check_writable(output)
    return Choice(predictor, roots, pairs)


def name_data(roots: Sequence[Path]) -> str:
    """The names of data folders, joined with a plus sign."""
    return " + ".join(map(find_data_name, roots))


def name_roots(data: str | Path | Sequence[str | Path]) -> list[Path]:
    """The data folders that a caller names, each once.

    Raises:
        DataError: If none is named.
    """
    roots = [data] if isinstance(data, str | Path) else data
    if not roots:
        raise DataError("calibration needs a data folder, none is given")
    return [*{Path(root).resolve(): Path(root) for root in roots}.values()]


def _check_split(split: str) -> None:
    if split not in ("val", "train"):
        raise SettingError(f"`split` {split}: nothing is chosen on the test split; use val")


def check_output(model: Model, output: Path, overwrite: bool) -> None:
    """Refuses models without a header, and outputs that exist already or are no checkpoint.

    Raises:
        CtmaError: If the model or the output is not allowed.
    """
    source = model.source if isinstance(model, Predictor) else None
    if isinstance(model, str | Path):
        source = find_checkpoint(model)
    if source is not None:
        if source.suffix in RELEASED_SUFFIXES:
            raise SettingError(f"{source}: has no header to calibrate; ctma convert gives it one")
        refuse_exported(source)
        if output.resolve() == source.resolve():
            raise SettingError(f"{source}: would be overwritten; name another file")
    if output.suffix != ".safetensors":
        raise SettingError(f"{output}: the calibrated checkpoint is a .safetensors")
    refuse_existing(output, overwrite)

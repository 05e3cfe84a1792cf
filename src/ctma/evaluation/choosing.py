"""What all choices on validation data have in common: their data, their split, their output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ctma.checkpoints.header import RELEASED_SUFFIXES, find_checkpoint, refuse_exported
from ctma.errors import DataError, SettingError
from ctma.files import refuse_existing
from ctma.inference.predictor import Model, Predictor


def name_roots(data: str | Path | Sequence[str | Path]) -> list[Path]:
    """The data folders that a caller names, each once.

    Raises:
        DataError: If none is named.
    """
    roots = [data] if isinstance(data, str | Path) else data
    if not roots:
        raise DataError("calibration needs a data folder, none is given")
    return [*{Path(root).resolve(): Path(root) for root in roots}.values()]


def check_split(split: str) -> None:
    """Refuses the test split, on which nothing is chosen.

    Raises:
        SettingError: If the split is not allowed.
    """
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

"""Writes an 8-bit model only if the loss of F1 on validation is small."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ctma.checkpoints.header import find_checkpoint, refuse_exported
from ctma.data.pairs import Pair
from ctma.data.readers import find_data_name, find_pairs
from ctma.errors import DataError, SettingError, extras
from ctma.evaluation.metrics import ConfusionMatrix
from ctma.evaluation.scoring import Scoring, score_pairs, tell_how
from ctma.exports.eight_bits import Judge, quantise
from ctma.exports.formats import describe_network, save_openvino
from ctma.files import check_writable, file_fingerprint, refuse_existing
from ctma.inference.predictor import Model, as_predictor, load
from ctma.types import Pixels, Plane, Say, ignore


@dataclass(frozen=True)
class Quantization:
    """The result of a quantisation.

    Attributes:
        f1_before: F1 on validation in float32, in [0, 1].
        f1_after: F1 on validation in 8 bits, in [0, 1].
        most: Largest allowed loss of F1, in points of 100.
    """

    f1_before: float
    f1_after: float
    most: float

    @property
    def lost(self) -> float:
        """The loss of F1, in points of 100."""
        return 100 * (self.f1_before - self.f1_after)


def quantize(
    model: Model,
    data: str | Path,
    output: str | Path,
    *,
    most: float = 0.2,
    folders: str | None = None,
    overwrite: bool = False,
    on_note: Say = ignore,
) -> Quantization:
    """Writes a checkpoint as an OpenVINO model in 8 bits, if the loss of F1 is small.

    Args:
        model: A predictor, a network in memory, or a checkpoint by name or path.
        data: A data folder: its training pairs give the scales, its validation pairs the scores.
        output: An ``.xml`` file; the weights go into a ``.bin`` file beside it.
        most: Largest allowed loss of F1 on validation, in points of 100.
        folders: The folder names of another layout, see ``evaluate``.
        overwrite: Replace the output if it exists.
        on_note: Called with a line of text about each step.

    Returns:
        Both scores, which the file's description also holds.

    Raises:
        SettingError: If the loss of F1 is larger than ``most``; then no file is written.
        DataError: If training and validation have a pair in common.
        MissingExtraError: If NNCF or OpenVINO is not installed.
        CtmaError: If the checkpoint or the data cannot be read, or the output cannot be written.
    """
    with extras():
        import nncf  # noqa: F401
    output = Path(output)
    if isinstance(model, str | Path):
        refuse_exported(find_checkpoint(model))
    _check(output, most, overwrite)
    exact = as_predictor(model).running_as(precision="float32")
    network = exact.network
    train, val = _find_apart(data, folders)
    check_writable(output)
    on_note(f"scoring {exact.name} in float32")
    before = score_pairs(exact, val)
    on_note("quantising; every layer that loses too much costs one more look at validation")
    quantised = quantise(network, train, val, most / 100, _judge_by(network.usage.threshold))
    with TemporaryDirectory() as folder:
        trial = Path(folder) / output.name
        save_openvino(quantised, trial, describe_network(network, precision="int8"))
        after = score_pairs(load(trial), val)
    quantization = Quantization(before.f1, after.f1, most)
    if quantization.lost > most:
        raise SettingError(
            f"{exact.name}: F1 on validation {100 * before.f1:.2f} in float32, "
            f"{100 * after.f1:.2f} in 8 bits, which is more than `most` {most:g} less"
        )
    how = tell_how(exact, val, Scoring(), split="val", data_name=find_data_name(data))
    scores = {"f1_float32": before.f1, "f1_int8": after.f1, "most": most}
    description = describe_network(network, precision="int8", scores=how.as_dict() | scores)
    save_openvino(quantised, output, description)
    return quantization


def _judge_by(threshold: float) -> Judge:
    def judge(pairs: Iterator[tuple[Plane, Pixels]]) -> float:
        confusion = ConfusionMatrix(threshold)
        for probability, change in pairs:
            confusion.update(torch.from_numpy(probability), torch.from_numpy(change))
        return confusion.scores().f1

    return judge


def _check(output: Path, most: float, overwrite: bool) -> None:
    if most < 0:
        raise SettingError(f"`most` {most:g}: points of 100, at least 0")
    if output.suffix != ".xml":
        raise SettingError(f"`output` {output}: a model in 8 bits is OpenVINO's, an .xml")
    for path in (output, output.with_suffix(".bin")):
        refuse_existing(path, overwrite)


def _find_apart(data: str | Path, folders: str | None) -> tuple[list[Pair], list[Pair]]:
    """The training and validation pairs, if no pair is in both."""
    train, val = (find_pairs(data, split, folders=folders) for split in ("train", "val"))
    training_pairs = {_images(pair): pair for pair in train}
    for pair in val:
        if (same := training_pairs.get(_images(pair))) is not None:
            raise DataError(
                f"{data}: {pair.name} of val is {same.name} of train, so its score says nothing "
                "of 8 bits; ctma check shows all such pairs"
            )
    return train, val


def _images(pair: Pair) -> tuple[str, str]:
    return file_fingerprint(pair.before), file_fingerprint(pair.after)

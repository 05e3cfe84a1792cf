"""Weights and arithmetic in 8 bits, where a validation split shows that it costs next to nothing.

Scales are taken from training pairs, by NNCF; layers that lose too much are kept in higher
precision, the one that loses most first, until the rest is within the gate.
"""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from numpy.typing import NDArray

from ctma.checkpoints.header import find_checkpoint
from ctma.checkpoints.store import load_model
from ctma.data.dataset import PairDataset, to_tensor
from ctma.data.pairs import Pair, find_label_scale
from ctma.data.readers import find_pairs
from ctma.errors import DataError, SettingError, extras
from ctma.evaluation.metrics import ConfusionMatrix
from ctma.evaluation.scoring import Scoring, record_score, score_pairs
from ctma.files import check_writable, file_fingerprint, refuse_existing
from ctma.inference.engines.exported import load_exported
from ctma.inference.export import describe_network, save_openvino, trace_probability
from ctma.inference.exported import INPUTS, is_exported
from ctma.inference.protocols import WINDOW, to_unit_range
from ctma.inference.tiles import windows
from ctma.models.base import ChangeNetwork
from ctma.types import Say, ignore

SAMPLES = 128
"""Crops of training pairs from which scales are taken."""

LOOKS, RANKED = 10, 64
"""How many layers are given back their precision at most, and crops on which they are ranked."""

EXACT = (
    "Interpolate", "Select", "Equal", "Sigmoid", "Divide", "Subtract", "ReduceLogicalAnd",
    "Add", "GroupConvolution",
)  # fmt: skip
"""Operations that stay as they are: logits pass through the first, which take next to no time; sums
of maps lose most in 8 bits, and depthwise convolutions are slower in them."""


@dataclass(frozen=True)
class Quantization:
    """What quantising a checkpoint gave.

    Attributes:
        f1_before: F1 on validation in float32, in [0, 1].
        f1_after: In 8 bits.
        most: By how many points of 100 it may be less.
    """

    f1_before: float
    f1_after: float
    most: float

    @property
    def lost(self) -> float:
        """Points of 100."""
        return 100 * (self.f1_before - self.f1_after)


def quantize(
    checkpoint: str | Path,
    data: str | Path,
    output: str | Path,
    *,
    most: float = 0.2,
    folders: str | None = None,
    overwrite: bool = False,
    on_note: Say = ignore,
) -> Quantization:
    """Writes a checkpoint as an OpenVINO model in 8 bits, if it stays as good.

    Args:
        checkpoint: A checkpoint of ours, or the name of a shipped one.
        data: A data folder: scales come from its training pairs, scores from validation.
        output: An ``.xml``; its weights go beside it, as ``.bin``.
        most: Points of F1, of 100, that may be lost on validation.
        folders: As in ``evaluate``.
        overwrite: Replace the output if it is there.
        on_note: Told what is being done.

    Returns:
        Both scores; they stand in the file's description too.

    Raises:
        SettingError: If it loses more; nothing is written then.
        DataError: If validation holds pairs that scales are taken from.
        MissingExtraError: If NNCF or OpenVINO is not installed.
        CtmaError: If checkpoint or data cannot be read, or the output not be written.
    """
    with extras():
        import nncf  # noqa: F401
    output, path = Path(output), find_checkpoint(checkpoint)
    _check(path, output, most, overwrite)
    network = load_model(path)
    train, val = _find_apart(data, folders)
    check_writable(output)
    scoring = Scoring(precision="float32")
    on_note(f"scoring {path.name} in float32")
    before = score_pairs(network, val, scoring)
    on_note("quantising; every layer that loses too much costs one more look at validation")
    model = _quantise(network, _sample(train, network.usage.scaling), val, most)
    with TemporaryDirectory() as folder:
        trial = Path(folder) / output.name
        save_openvino(model, trial, describe_network(network, precision="int8"))
        after = score_pairs(load_exported(trial), val, Scoring())
    found = Quantization(before.f1, after.f1, most)
    if found.lost > most:
        raise SettingError(
            f"{path.name}: F1 on validation {100 * found.f1_before:.2f} in float32, "
            f"{100 * found.f1_after:.2f} in 8 bits, which is more than `most` {most:g} less"
        )
    record = record_score(
        network,
        val,
        scoring,
        {"f1_float32": found.f1_before, "f1_int8": found.f1_after, "most": most},
        split="val",
        data_name=Path(data).resolve().name,
        checkpoint_name=path.name,
        checkpoint=file_fingerprint(path),
    )
    told = describe_network(network, precision="int8", scores=record.as_dict())
    save_openvino(model, output, told)
    return found


def _check(checkpoint: Path, output: Path, most: float, overwrite: bool) -> None:
    if is_exported(checkpoint):
        raise SettingError(f"{checkpoint}: is exported; quantise the checkpoint that it came from")
    if most < 0:
        raise SettingError(f"`most` {most:g}: points of 100, at least 0")
    if output.suffix != ".xml":
        raise SettingError(f"`output` {output}: a model in 8 bits is OpenVINO's, an .xml")
    for path in (output, output.with_suffix(".bin")):
        refuse_existing(path, overwrite)


def _find_apart(data: str | Path, folders: str | None) -> tuple[list[Pair], list[Pair]]:
    """Training and validation, if no pair is in both."""
    train, val = (find_pairs(data, split, folders=folders) for split in ("train", "val"))
    known = {_images(pair): pair for pair in train}
    for pair in val:
        if (same := known.get(_images(pair))) is not None:
            raise DataError(
                f"{data}: {pair.name} of val is {same.name} of train, so its score says nothing "
                "of 8 bits; ctma check shows all such pairs"
            )
    return train, val


def _images(pair: Pair) -> tuple[str, str]:
    return file_fingerprint(pair.before), file_fingerprint(pair.after)


def _quantise(network: ChangeNetwork, samples: _Crops, val: Sequence[Pair], most: float) -> Any:
    import nncf
    import openvino

    usage = network.usage
    checked = _Crops(val, usage.scaling)

    def score(model: Any, crops: Any) -> float:
        request = model.create_infer_request()
        confusion = ConfusionMatrix(usage.threshold)
        for crop in crops:
            probability = torch.from_numpy(request.infer(_inputs(crop))[0])
            confusion.update(probability, torch.from_numpy(crop["change"]))
        return confusion.scores().f1

    nncf.set_log_level(logging.ERROR)
    model = openvino.Core().read_model(trace_probability(network, "openvino"))
    # Its bars would stand among what is printed for programs.
    with redirect_stdout(sys.stderr):
        return nncf.quantize_with_accuracy_control(
            model,
            calibration_dataset=nncf.Dataset([*samples], _inputs),
            validation_dataset=nncf.Dataset(checked),
            validation_fn=score,
            max_drop=most / 100,
            drop_type=nncf.DropType.ABSOLUTE,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=SAMPLES,
            ignored_scope=nncf.IgnoredScope(types=[*EXACT], validate=False),
            advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                max_num_iterations=LOOKS, ranking_subset_size=RANKED
            ),
        )


Crop = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class _Crops:
    """Crops of labelled pairs, read anew each time they are gone through."""

    pairs: Sequence[Pair]
    scaling: float
    chosen: int | None = None

    def __iter__(self) -> Iterator[Crop]:
        dataset = PairDataset(self.pairs, find_label_scale(self.pairs))
        for number, pair in enumerate(self.pairs):
            images = [to_tensor(image)[None] for image in dataset.read(number)]
            height, width = images[0].shape[-2:]
            places = windows(height, width, WINDOW, WINDOW)
            if self.chosen is not None:
                places = random.Random(pair.name).sample(places, min(self.chosen, len(places)))
            for place in places:
                before, after, change = (image[..., *place.area].contiguous() for image in images)
                scaled = (to_unit_range(image, self.scaling).numpy() for image in (before, after))
                yield dict(zip((*INPUTS, "change"), (*scaled, change.numpy()), strict=True))


def _sample(pairs: Sequence[Pair], scaling: float) -> _Crops:
    """Crops from all over the training pairs, always the same ones."""
    chosen = pairs[:: max(1, len(pairs) // SAMPLES)][:SAMPLES]
    return _Crops(chosen, scaling, -(-SAMPLES // len(chosen)))


def _inputs(crop: Crop) -> Crop:
    return {name: crop[name] for name in INPUTS}

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

import numpy as np
from numpy.typing import NDArray

from ctma.checkpoints.header import find_checkpoint
from ctma.checkpoints.store import load_model
from ctma.data.pairs import Pair, binary_label, find_label_scale, read_label, read_pair
from ctma.data.readers import find_pairs
from ctma.errors import SettingError, extras
from ctma.evaluation.metrics import Scores
from ctma.evaluation.scoring import Scoring, record_score, score_pairs
from ctma.files import check_writable, file_fingerprint, refuse_existing
from ctma.inference.engines.exported import load_exported
from ctma.inference.export import describe_network, save_openvino, trace_probability
from ctma.inference.exported import is_exported
from ctma.inference.protocols import WINDOW
from ctma.inference.tiles import windows
from ctma.models.base import ChangeNetwork
from ctma.types import Say, ignore

SAMPLES = 128
"""Crops of training pairs from which scales are taken."""

LOOKS, RANKED = 10, 64
"""How many layers are given back their precision at most, and crops on which they are ranked."""

EXACT = ("Interpolate", "Select", "Equal", "Sigmoid", "Divide", "Subtract", "ReduceLogicalAnd")
"""Operations that stay as they are: they take next to no time, and logits pass through them."""


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
        MissingExtraError: If NNCF or OpenVINO is not installed.
        CtmaError: If checkpoint or data cannot be read, or the output not be written.
    """
    with extras():
        import nncf  # noqa: F401
    output, path = Path(output), find_checkpoint(checkpoint)
    _check(path, output, most, overwrite)
    network = load_model(path)
    train, val = (find_pairs(data, split, folders=folders) for split in ("train", "val"))
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


def _quantise(network: ChangeNetwork, samples: _Crops, val: Sequence[Pair], most: float) -> Any:
    import nncf
    import openvino

    usage = network.usage
    checked = _Crops(val, usage.scaling)

    def score(model: Any, crops: Any) -> float:
        request = model.create_infer_request()
        found = Scores(0, 0, 0, 0)
        for crop in crops:
            probability = request.infer(_inputs(crop))[0][0, 0]
            found = _add(found, probability > usage.threshold, crop["change"] > 0)
        return found.f1

    nncf.set_log_level(logging.ERROR)
    model = openvino.Core().read_model(trace_probability(network))
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
        scale = find_label_scale(self.pairs)
        for pair in self.pairs:
            assert pair.change is not None
            before, after = read_pair(pair)
            change = binary_label(read_label(pair.change), scale, pair.change)
            places = windows(change.shape[0], change.shape[1], WINDOW, WINDOW)
            if self.chosen is not None:
                places = random.Random(pair.name).sample(places, min(self.chosen, len(places)))
            for place in places:
                rows, columns = place.area
                yield {
                    "before": self._scaled(before[rows, columns]),
                    "after": self._scaled(after[rows, columns]),
                    "change": change[rows, columns],
                }

    def _scaled(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        planes = np.minimum(image.transpose(2, 0, 1)[None] / self.scaling, 1)
        return np.ascontiguousarray(planes, np.float32)


def _sample(pairs: Sequence[Pair], scaling: float) -> _Crops:
    """Crops from all over the training pairs, always the same ones."""
    chosen = pairs[:: max(1, len(pairs) // SAMPLES)][:SAMPLES]
    return _Crops(chosen, scaling, -(-SAMPLES // len(chosen)))


def _inputs(crop: Crop) -> Crop:
    return {"before": crop["before"], "after": crop["after"]}


def _add(scores: Scores, found: NDArray[np.bool_], change: NDArray[np.bool_]) -> Scores:
    right = int((found & change).sum())
    return Scores(
        scores.true_positive + right,
        scores.false_positive + int(found.sum()) - right,
        scores.false_negative + int(change.sum()) - right,
        scores.true_negative + int((~found & ~change).sum()),
    )

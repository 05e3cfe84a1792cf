"""Quantises a network to an 8-bit OpenVINO model with NNCF.

NNCF computes the quantisation scales on training pairs. NNCF then restores the precision of single
layers, the layer with the largest loss first, until the loss of the score on validation pairs is
within a limit.
"""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctma.data.dataset import PairDataset, to_tensor, to_unit_range
from ctma.data.pairs import Pair, find_coding
from ctma.data.rasters import settle_usage
from ctma.data.tiles import windows
from ctma.engines.runtimes import INPUTS
from ctma.errors import extras
from ctma.exports.graphs import trace_probability
from ctma.models.base import ChangeNetwork
from ctma.models.usage import Usage
from ctma.types import Pixels, Plane

WINDOW = 256
"""Side of the crops, in pixels."""

SAMPLES = 128
"""Number of training crops on which NNCF computes the scales."""

LOOKS, RANKED = 10, 64
"""Most iterations that restore precision, and number of crops on which NNCF ranks layers."""

EXACT = (
    "Interpolate", "Select", "Equal", "Sigmoid", "Divide", "Subtract", "ReduceMax",
    "Add", "GroupConvolution",
)  # fmt: skip
"""Operations that are not quantised. Logits pass through the first operations, which take almost no
time. Sums of maps lose most in 8 bits, and depthwise convolutions are slower in 8 bits."""


Judge = Callable[[Iterator[tuple[Plane, Pixels]]], float]
"""Computes a score from pairs of probabilities and labels (0/1)."""


def quantise(
    network: ChangeNetwork, train: Sequence[Pair], val: Sequence[Pair], most: float, judge: Judge
) -> Any:
    """Quantises a network to an 8-bit OpenVINO model.

    Args:
        network: The network, in evaluation mode, on the CPU.
        train: Training pairs, on which NNCF computes the scales.
        val: Validation pairs, on which NNCF selects the layers that stay in higher precision.
        most: Largest allowed loss of the score on validation pairs.
        judge: Computes the score.

    Raises:
        MissingExtraError: If NNCF or OpenVINO is not installed.
    """
    with extras():
        import nncf
        import openvino

    usage = settle_usage(network.usage, train)

    def score(model: Any, crops: Any) -> float:
        request = model.create_infer_request()
        return judge((np.array(request.infer(_inputs(crop))[0]), crop["change"]) for crop in crops)

    nncf.set_log_level(logging.ERROR)
    model = openvino.Core().read_model(trace_probability(network, "openvino"))
    # NNCF prints progress bars to stdout, which would mix with machine-readable output.
    with redirect_stdout(sys.stderr):
        return nncf.quantize_with_accuracy_control(
            model,
            calibration_dataset=nncf.Dataset([*_sample(train, usage)], _inputs),
            validation_dataset=nncf.Dataset(_Crops(val, usage)),
            validation_fn=score,
            max_drop=most,
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
    """Crops of labelled pairs; each iteration reads the pairs from disk again."""

    pairs: Sequence[Pair]
    usage: Usage
    chosen: int | None = None

    def __iter__(self) -> Iterator[Crop]:
        dataset = PairDataset(self.pairs, find_coding(self.pairs), usage=self.usage)
        for number, pair in enumerate(self.pairs):
            images = [to_tensor(image)[None] for image in dataset.read(number)]
            height, width = images[0].shape[-2:]
            places = windows(height, width, WINDOW, WINDOW)
            if self.chosen is not None:
                places = random.Random(pair.name).sample(places, min(self.chosen, len(places)))
            for place in places:
                before, after, change = (image[..., *place.area].contiguous() for image in images)
                scaled = (
                    to_unit_range(image, self.usage.scaling).numpy() for image in (before, after)
                )
                yield dict(zip((*INPUTS, "change"), (*scaled, change.numpy()), strict=True))


def _sample(pairs: Sequence[Pair], usage: Usage) -> _Crops:
    """Selects crops evenly from the training pairs; the selection is always the same."""
    chosen = pairs[:: -(-len(pairs) // SAMPLES)]
    return _Crops(chosen, usage, -(-SAMPLES // len(chosen)))


def _inputs(crop: Crop) -> Crop:
    return {name: crop[name] for name in INPUTS}

"""Exported models as networks, for scene prediction, evaluation and figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ctma.engines.prepared import Prepared
from ctma.engines.runtimes import Run
from ctma.engines.sessions import SessionEngine, Shape
from ctma.exports.exported import ExportedModel, read_exported
from ctma.files import file_fingerprint
from ctma.models.base import ChangeNetwork
from ctma.models.usage import Usage

_PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}

_NEAREST = 1e-7
"""Probabilities are clipped to this distance from 0 and 1 before ctma computes logits."""


class Signature(ChangeNetwork):
    """A network without weights: only bands, usage and sizes.

    Args:
        model: The exported model, which computes the output.
    """

    digest: Tensor

    def __init__(self, model: ExportedModel):
        super().__init__()
        description = model.description
        self.bands = len(description.bands)
        self.stride = description.stride
        self.minimum_size = description.minimum_size
        self.name = description.network
        self.arguments = description.arguments
        # The model's output is already calibrated.
        self.usage = Usage(
            threshold=description.threshold,
            scaling=description.scaling,
            bands=description.bands,
            ranges=description.ranges,
            ground_sample_distance=description.ground_sample_distance,
        )
        whole = [model.path, model.path.with_suffix(".bin")]
        digest = "".join(file_fingerprint(path) for path in whole if path.is_file())
        self.register_buffer("digest", torch.tensor([*digest.encode()], dtype=torch.uint8))


class Exported(SessionEngine):
    """Runs an exported model.

    Args:
        model: An exported model, as returned by ``read_exported``.
    """

    def __init__(self, model: ExportedModel):
        super().__init__(Signature(model).eval(), model.description.precision)
        self.name = model.runtime  # type: ignore[misc]
        self.precisions = (model.description.precision,)  # type: ignore[misc]
        self.packages = (_PACKAGES[model.runtime],)  # type: ignore[misc]
        self.model = model
        self.shapes = 4 if model.runtime == "openvino" else 0  # type: ignore[misc]

    def run(self, before: Tensor, after: Tensor) -> Tensor:
        """Computes logits from the model's probability; the inputs are those of the network."""
        return super().run(before, after).logit(eps=_NEAREST)

    def open(self, form: str, shape: Shape | None) -> Callable[[], Run]:
        """Opens the model's file and returns a function that makes sessions."""
        return self.model.open(shape, torch.get_num_threads(), self.streams)

    def computed(self) -> None:
        """Returns ``None``: only the model's file determines how it computes."""
        return None


def load_exported(path: str | Path) -> Prepared:
    """Loads an exported model as a network; raises the errors of ``read_exported``."""
    model = read_exported(path)
    return Prepared(Exported(model), model.why).eval()

"""Exported models as networks, so that scenes, scores and views take them too."""

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
"""How near to 0 and 1 a probability is taken for a logit."""


class Signature(ChangeNetwork):
    """What a network is without its weights: bands, usage, sizes.

    Args:
        model: The exported model that computes in its place.
    """

    digest: Tensor

    def __init__(self, model: ExportedModel):
        super().__init__()
        known = model.description
        self.bands = len(known.bands)
        self.stride = known.stride
        self.minimum_size = known.minimum_size
        self.name = known.network
        self.arguments = known.arguments
        # The output is calibrated already.
        self.usage = Usage(
            threshold=known.threshold,
            scaling=known.scaling,
            bands=known.bands,
            ground_sample_distance=known.ground_sample_distance,
        )
        whole = [model.path, model.path.with_suffix(".bin")]
        digest = "".join(file_fingerprint(path) for path in whole if path.is_file())
        self.register_buffer("digest", torch.tensor([*digest.encode()], dtype=torch.uint8))


class Exported(SessionEngine):
    """Runs an exported model.

    Args:
        model: As from ``read_exported``.
    """

    def __init__(self, model: ExportedModel):
        super().__init__(Signature(model).eval(), model.description.precision)
        self.name = model.runtime  # type: ignore[misc]
        self.precisions = (model.description.precision,)  # type: ignore[misc]
        self.packages = (_PACKAGES[model.runtime],)  # type: ignore[misc]
        self.model = model
        self.shapes = 4 if model.runtime == "openvino" else 0  # type: ignore[misc]

    def run(self, before: Tensor, after: Tensor) -> Tensor:
        """Logits of the model's probability; inputs as the network's."""
        return super().run(before, after).logit(eps=_NEAREST)

    def open(self, form: str, shape: Shape | None) -> Callable[[], Run]:
        """Sessions of the file."""
        return self.model.open(shape, torch.get_num_threads(), self.streams)

    def computed(self) -> None:
        """Only the file knows."""
        return None


def load_exported(path: str | Path) -> Prepared:
    """An exported model as a network; errors as of ``read_exported``."""
    model = read_exported(path)
    return Prepared(Exported(model), model.why).eval()

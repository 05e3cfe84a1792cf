"""Exported models as networks, so that scenes, scores and views take them too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ctma.files import file_fingerprint
from ctma.inference.engines.engine import version_of
from ctma.inference.engines.sessions import SessionEngine, Shape
from ctma.inference.exported import ExportedModel, read_exported
from ctma.inference.runtimes import Run
from ctma.models.base import ChangeLogits, ChangeNetwork, Usage

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
        model: As from :func:`read_exported`.
    """

    def __init__(self, model: ExportedModel):
        super().__init__(Signature(model), model.description.precision)
        self.engine = model.runtime  # type: ignore[misc]
        self.precisions = (model.description.precision,)  # type: ignore[misc]
        self.name = self.network.name
        self.arguments = self.network.arguments
        self.model = model
        self.shapes = 4 if model.runtime == "openvino" else 0  # type: ignore[misc]
        self.why = model.why

    def forward(self, before: Tensor, after: Tensor) -> ChangeLogits:
        """Logits of the model's probability; inputs as the network's."""
        return ChangeLogits(self.run(before, after).logit(eps=_NEAREST))

    def open(self, form: str, shape: Shape | None) -> Callable[[], Run]:
        """Sessions of the file."""
        return self.model.open(shape, torch.get_num_threads(), self.streams)

    def as_computed(self) -> None:
        """Only the file knows."""
        return None

    def versions(self) -> dict[str, str]:
        """Of what runs it."""
        return version_of(_PACKAGES[self.engine])


def load_exported(path: str | Path) -> Exported:
    """An exported model as a network; errors as of :func:`read_exported`."""
    return Exported(read_exported(path)).eval()

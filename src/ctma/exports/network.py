"""Exported models as networks, for evaluation and figures."""

from __future__ import annotations

from pathlib import Path

from ctma.engines.prepared import Prepared
from ctma.exports.exported import Exported, ExportedModel, read_exported
from ctma.models.base import ChangeNetwork


class Signature(ChangeNetwork):
    """A network without weights: only bands, usage and sizes.

    Args:
        model: The exported model, which computes the output.
    """

    def __init__(self, model: ExportedModel):
        super().__init__()
        description = model.description
        self.bands = len(description.bands)
        self.stride = description.stride
        self.minimum_size = description.minimum_size
        self.name = description.network
        self.arguments = description.arguments
        self.usage = model.usage


class ExportedNetwork(Prepared):
    """An exported model as a network.

    Args:
        model: The exported model.
    """

    def __init__(self, model: ExportedModel):
        super().__init__(Exported(model, Signature(model).eval()), model.why)
        self.model = model

    def fingerprint(self) -> str:
        """A hash of the content of the model's files."""
        return self.model.fingerprint


def load_exported(path: str | Path) -> Prepared:
    """Loads an exported model as a network; raises the errors of ``read_exported``."""
    return ExportedNetwork(read_exported(path)).eval()

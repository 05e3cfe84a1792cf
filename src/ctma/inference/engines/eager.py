"""Torch, operation by operation, as the network is written."""

from __future__ import annotations

from torch import Tensor

from ctma.devices import autocast
from ctma.inference.engines.engine import Engine
from ctma.models.base import ChangeLogits


class Eager(Engine):
    """Runs the network as it is."""

    engine = "eager"
    precisions = ("float32", "bf16")

    def forward(self, before: Tensor, after: Tensor) -> ChangeLogits:
        """Logits; inputs as the network's."""
        with autocast(before.device, self.precision):
            logits: ChangeLogits = self.network(before, after)
            return logits

"""Torch, operation by operation, as the network is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ctma.engines.engine import Engine

if TYPE_CHECKING:
    from torch import Tensor


class Eager(Engine):
    """Runs the network as it is."""

    name = "eager"
    summary = "torch, operation by operation, as the network is written"
    precisions = ("float32", "bf16")
    rank: ClassVar = {"bf16": 80, "float32": 90}

    def run(self, before: Tensor, after: Tensor) -> Tensor:
        """Change logits; takes the network's inputs."""
        from ctma.devices import autocast
        from ctma.models.base import check_logits

        with autocast(before.device, self.precision):
            logits = self.network(before, after)
        check_logits(self.network, logits, before)
        fine: Tensor = logits.fine
        return fine

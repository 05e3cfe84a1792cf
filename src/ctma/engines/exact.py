"""Torch on the rewritten network: equal outputs to rounding, with fewer multiplications."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ctma.engines.eager import Eager

if TYPE_CHECKING:
    from torch import Tensor

    from ctma.models.base import ChangeNetwork


class Exact(Eager):
    """Runs the rewritten network."""

    name = "exact"
    summary = "torch on the rewritten network: the same to rounding, with fewer multiplications"
    rank: ClassVar = {"bf16": 20, "float32": 40}
    measured: ClassVar[Sequence[str]] = ("bf16",)

    def __init__(self, network: ChangeNetwork, precision: str, **options: Any):
        from ctma.engines.rewriting import rewrite
        from ctma.models.layers import Rewriting

        tiles = precision == "float32" and network.device.type == "cpu"
        super().__init__(rewrite(network, Rewriting(tiles=tiles)), precision, **options)

    def run(self, before: Tensor, after: Tensor) -> Tensor:
        """Change logits; takes the network's inputs."""
        from ctma.memory import keep_memory

        # Here and not in __init__, because worker processes receive a finished engine.
        if before.device.type == "cpu":
            keep_memory()
        return super().run(before, after)

"""Torch's own compiler on the rewritten network: minutes at each new size, then faster."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ctma.devices import autocast
from ctma.errors import SettingError, first_line
from ctma.inference.engines.exact import Exact
from ctma.models.base import ChangeLogits, ChangeNetwork


class Compiled(Exact):
    """Runs what torch compiles of the rewritten network."""

    engine = "compile"

    def __init__(self, network: ChangeNetwork, precision: str):
        super().__init__(network, precision)
        self._compiled: Any = None

    def forward(self, before: Tensor, after: Tensor) -> ChangeLogits:
        """Logits; inputs as the network's.

        Raises:
            SettingError: If torch cannot compile here, as where there is no C++ compiler.
        """
        if self._compiled is None:
            # Size by size: of graphs for any size torch 2.15 fails to turn modulo into tensors.
            self._compiled = torch.compile(self.network, dynamic=False)
        try:
            with autocast(before.device, self.precision):
                return ChangeLogits(self._compiled(before, after).fine)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise SettingError(f"engine compile: {first_line(error)}; take exact") from error

    def __getstate__(self) -> dict[str, Any]:
        """All but what was compiled in this process."""
        return vars(self) | {"_compiled": None}

"""Torch's own compiler on the rewritten network: minutes at each new size, then faster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ctma.engines.exact import Exact
from ctma.errors import SettingError, first_line

if TYPE_CHECKING:
    from torch import Tensor

    from ctma.models.base import ChangeNetwork


class Compiled(Exact):
    """Runs what torch compiles of the rewritten network."""

    name = "compile"
    summary = "torch's compiler on the rewritten network: minutes at each new size, then faster"
    needs = "a C++ compiler"
    rank: ClassVar = {"bf16": 60, "float32": 70}
    measured: ClassVar = ()

    def __init__(self, network: ChangeNetwork, precision: str, **options: Any):
        super().__init__(network, precision, **options)
        self._compiled: Any = None

    def run(self, before: Tensor, after: Tensor) -> Tensor:
        """Logits; inputs as the network's.

        Raises:
            SettingError: If torch cannot compile here, as where there is no C++ compiler.
        """
        import torch

        from ctma.devices import autocast

        if self._compiled is None:
            # Size by size: of graphs for any size torch 2.15 fails to turn modulo into tensors.
            self._compiled = torch.compile(self.network, dynamic=False)
        try:
            with autocast(before.device, self.precision):
                fine: Tensor = self._compiled(before, after).fine
                return fine
        except torch._dynamo.exc.TorchDynamoException as error:
            raise SettingError(f"engine compile: {first_line(error)}; take exact") from error

    def __getstate__(self) -> dict[str, Any]:
        """All but what was compiled in this process."""
        return vars(self) | {"_compiled": None}

"""Torch's own compiler on the rewritten network: minutes at each new size, then faster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ctma.engines.exact import Exact
from ctma.errors import SettingError, first_line

if TYPE_CHECKING:
    from torch import Tensor

    from ctma.models.base import ChangeNetwork


class Compiled(Exact):
    """Runs the rewritten network, compiled by torch."""

    name = "compile"
    summary = "torch's compiler on the rewritten network: minutes at each new size, then faster"
    needs = "a C++ compiler"
    rank: ClassVar = {"bf16": 60, "float32": 70}
    measured: ClassVar = ()

    def __init__(self, network: ChangeNetwork, precision: str, **options: Any):
        super().__init__(network, precision, **options)
        self._compiled: Any = None

    def run(self, before: Tensor, after: Tensor) -> Tensor:
        """Change logits; takes the network's inputs.

        Raises:
            SettingError: If torch cannot compile, for example without a C++ compiler.
        """
        import torch

        from ctma.devices import autocast

        if self._compiled is None:
            # One graph for each size: in graphs for any size, torch 2.15 cannot compile the modulo.
            self._compiled = torch.compile(self.network, dynamic=False)
        try:
            with autocast(before.device, self.precision):
                fine: Tensor = self._compiled(before, after).fine
                return fine
        except torch._dynamo.exc.TorchDynamoException as error:
            raise SettingError(f"engine compile: {first_line(error)}; take exact") from error

    def __getstate__(self) -> dict[str, Any]:
        """All attributes, without the compiled network."""
        return vars(self) | {"_compiled": None}

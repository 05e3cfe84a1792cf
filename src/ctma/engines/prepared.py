"""A network behind an engine, with the signature of a network."""

from __future__ import annotations

from torch import Tensor

from ctma.engines.engine import Engine
from ctma.errors import SettingError
from ctma.models.base import ChangeLogits, ChangeNetwork, View


class Prepared(View):
    """A network that an engine runs; works wherever a network works.

    Args:
        engine: The engine, which holds the network.
        why: Reason for the choice of the engine, for users; empty if the user chose the engine.
    """

    def __init__(self, engine: Engine, why: str = ""):
        super().__init__(engine.network)
        self.engine = engine
        self.why = why
        self.name = engine.network.name
        self.arguments = engine.network.arguments

    def forward(self, before: Tensor, after: Tensor) -> ChangeLogits:
        """Change logits; takes the network's inputs."""
        return ChangeLogits(self.engine.run(before, after))

    def with_streams(self, streams: int | None) -> Prepared:
        """The same network for this many parallel callers, each of which computes alone."""
        return self if streams is None else Prepared(self.engine.with_streams(streams), self.why)


def refuse_prepared(network: ChangeNetwork) -> None:
    """Refuses a network behind an engine, for functions that need the network itself.

    Raises:
        SettingError: If an engine runs it.
    """
    if isinstance(network, Prepared):
        raise SettingError("this runs behind an engine, or was exported; give the network itself")

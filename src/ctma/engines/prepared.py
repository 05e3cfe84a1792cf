"""A network behind an engine, with the signature of a network."""

from __future__ import annotations

from torch import Tensor

from ctma.engines.engine import Engine
from ctma.errors import SettingError
from ctma.models.base import ChangeLogits, ChangeNetwork, View


class Prepared(View):
    """A network that an engine runs; it goes wherever a network goes.

    Args:
        engine: Holds the network.
        why: Why the engine was chosen, for people; empty where it was asked for.
    """

    def __init__(self, engine: Engine, why: str = ""):
        super().__init__(engine.network)
        self.engine = engine
        self.why = why
        self.name = engine.network.name
        self.arguments = engine.network.arguments

    def forward(self, before: Tensor, after: Tensor) -> ChangeLogits:
        """Logits; inputs as the network's."""
        return ChangeLogits(self.engine.run(before, after))

    def with_streams(self, streams: int | None) -> Prepared:
        """The same for so many threads that call it at once, each computing alone."""
        return self if streams is None else Prepared(self.engine.with_streams(streams), self.why)


def refuse_prepared(network: ChangeNetwork) -> None:
    """Refuses a network behind an engine where the network itself is wanted.

    Raises:
        SettingError: If an engine runs it.
    """
    if isinstance(network, Prepared):
        raise SettingError("this runs behind an engine, or was exported; give the network itself")

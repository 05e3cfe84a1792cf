"""OpenVINO from what an earlier start left in the cache, without torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from ctma.engines.graph import GraphEngine
from ctma.engines.openvino import Known, OpenVino


class ReadyOpenVino(OpenVino):
    """OpenVINO with the graphs in the cache; loads torch only for a graph that is not there.

    Args:
        known: What an earlier start found out.
        load: Makes the same engine with torch.
    """

    def __init__(self, known: Known, load: Callable[[], GraphEngine]):
        self._known = known
        self._load = load
        self.precision = known.precision
        self.cache = True
        self.streams = None
        self._graphs = {}
        self._keys = dict(known.keys)
        self._forget_sessions()

    @cached_property
    def _with_torch(self) -> GraphEngine:
        return self._load()

    @property
    def stride(self) -> int:
        """Stride of the network's coarsest features, in pixels."""
        return self._known.stride

    def key(self, form: str) -> str:
        """The cache key of a form's graph."""
        if form not in self._keys:
            self._keys[form] = self._with_torch.key(form)
        return self._keys[form]

    def make(self, form: str) -> bytes:
        """Makes the graph of a form."""
        return self._with_torch.make(form)

    def describe(self) -> dict[str, str]:
        """All facts that the bits of the outputs depend on."""
        return self._known.facts

    def units(self) -> list[str]:
        """The processor's units for bf16 and int8 arithmetic."""
        return self._known.units

    def threads(self) -> int:
        """Number of threads that compute where there is one caller."""
        return self._known.threads

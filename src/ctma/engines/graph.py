"""Base of the engines that turn a network into a graph once."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ctma.engines import cache
from ctma.engines.forms import AS_IS, REWRITTEN
from ctma.engines.runtimes import Run
from ctma.engines.sessions import SessionEngine, Shape

if TYPE_CHECKING:
    from ctma.models.base import ChangeNetwork


class GraphEngine(SessionEngine):
    """Runs the graph of a network.

    The engine makes two graphs. The graph of the rewritten network is for sizes that are multiples
    of the stride. The graph of the original network is for all other sizes.

    Raises:
        SettingError: If the engine cannot turn the network into a graph.
        MissingExtraError: If the runtime is not installed.
    """

    def __init__(self, *arguments: Any, **options: Any):
        from ctma.engines.graphs import find_source

        super().__init__(*arguments, **options)
        self._graphs: dict[str, bytes] = {}
        self._keys: dict[str, str] = {}
        self._source = find_source(self.network)
        # Without its code, nobody could tell a changed network from the kept one.
        self.cache = self.cache and self._source is not None
        form = self.form_for((self.stride,))
        if not (self.cache and cache.holds(self.key(form))):
            self._graph(form)

    @property
    def stride(self) -> int:
        """Stride of the network's coarsest features, in pixels."""
        return self.network.stride

    def form_for(self, shape: Shape) -> str:
        """The form of the network whose graph takes inputs of a shape."""
        fits = not any(length % self.stride for length in shape[-2:])
        return REWRITTEN if fits else AS_IS

    def computed(self) -> ChangeNetwork:
        """The network behind the graph for sizes that are multiples of the stride."""
        from ctma.engines.graphs import FORMS

        return FORMS[self.form_for((self.stride,))](self.network)

    @abstractmethod
    def open_graph(self, graph: bytes, shape: Shape | None) -> Callable[[], Run]:
        """Prepares a graph; shape and result as in ``open``."""

    def open(self, form: str, shape: Shape | None) -> Callable[[], Run]:
        """Prepares the graph of a form; see ``SessionEngine.open``."""
        return self.open_graph(self._graph(form), shape)

    def key(self, form: str) -> str:
        """The cache key of a form's graph."""
        if form not in self._keys:
            parts = [self.fingerprint(), self._source or "", form]
            self._keys[form] = digest_of([*parts, *self.describe().values()])
        return self._keys[form]

    def _graph(self, form: str) -> bytes:
        if form not in self._graphs:
            graph = cache.read(self.key(form)) if self.cache else None
            self._graphs[form] = self.make(form) if graph is None else graph
        return self._graphs[form]

    def make(self, form: str) -> bytes:
        """Makes the graph of a form, and keeps the graph in the cache."""
        from ctma.engines.graphs import make_graph

        def opened(graph: bytes) -> Run:
            return self.open_graph(graph, None)()

        graph = make_graph(self.network, form, self.name, self.precision, opened)
        # Stores no graph of changed weights: the key has the fingerprint of the original weights.
        if self.cache and self.network.fingerprint() == self.fingerprint():
            cache.write(self.key(form), graph)
        return graph


def digest_of(parts: Sequence[str]) -> str:
    """A hash of some lines, as a cache key of 32 hexadecimal digits."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]

"""What engines have in common that turn a network into a graph once."""

from __future__ import annotations

import hashlib
import inspect
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ctma.errors import SettingError, first_line
from ctma.files import file_fingerprint, fingerprint
from ctma.inference.engines import cache
from ctma.inference.engines.exact import Exact, fold_norms, rewrite
from ctma.inference.engines.sessions import SessionEngine, Shape
from ctma.inference.engines.winograd import Winograd
from ctma.inference.graphs import UNTRACEABLE, gives, trace
from ctma.inference.runtimes import Run
from ctma.models.base import ChangeLogits, ChangeNetwork

TOLERANCE = {"float32": 1e-3, "bf16": 1e-1}
"""By how much logits of a new graph may be off at another size than it was traced at, as a
share of the largest; a graph that fixed a size is off by much more."""

AS_IS, REWRITTEN = "as it is", "rewritten"
JOINED, TILED = "rewritten but for joins", "rewritten, wide convolutions in tiles"
_FORMS: dict[str, Callable[[ChangeNetwork], ChangeNetwork]] = {
    AS_IS: fold_norms,
    REWRITTEN: rewrite,
    JOINED: partial(rewrite, joins=False),
    TILED: partial(rewrite, tiles=True),
}
"""Forms of a network that graphs are made of."""

OUTPUT = "logits"


class Logits(nn.Module):
    """A network that gives its fine logits alone."""

    def __init__(self, network: ChangeNetwork):
        super().__init__()
        self.network = network

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """(B, 1, H, W)."""
        return self.network(before, after).fine


class GraphEngine(SessionEngine):
    """Runs the graph of a network.

    There are two: one of the rewritten network for sizes that are multiples of its stride, and
    one of the network as it is for all others.

    Args:
        network: In evaluation mode, on the CPU.
        precision: One of ``precisions``.
        keep: Whether graphs are kept on disk for the next start.

    Raises:
        SettingError: If the network is elsewhere, or cannot be turned into a graph.
        MissingExtraError: If the runtime is not installed.
    """

    def __init__(self, network: ChangeNetwork, precision: str, *, keep: bool = True):
        super().__init__(network, precision)
        self.keep = keep
        self._graphs: dict[str, bytes] = {}
        self._keys: dict[str, str] = {}
        form = self.form_for((self.stride,))
        if not (keep and cache.holds(self.key(form))):
            self._graph(form)

    def forward(self, before: Tensor, after: Tensor) -> ChangeLogits:
        """Logits; inputs as the network's."""
        return ChangeLogits(self.run(before, after))

    def form_for(self, shape: Shape) -> str:
        """One of the two graphs."""
        fits = not any(length % self.stride for length in shape[-2:])
        return REWRITTEN if fits else AS_IS

    def as_computed(self) -> ChangeNetwork:
        """That of the graph for sizes that are multiples of the stride."""
        return _FORMS[self.form_for((self.stride,))](self.network)

    @abstractmethod
    def open_graph(self, graph: bytes, shape: Shape | None) -> Callable[[], Run]:
        """As :meth:`open`, of a graph."""

    def open(self, form: str, shape: Shape | None) -> Callable[[], Run]:
        """Of the form's graph."""
        return self.open_graph(self._graph(form), shape)

    def _graph(self, form: str) -> bytes:
        if form not in self._graphs:
            graph = cache.read(self.key(form)) if self.keep else None
            if graph is None:
                self._keys.pop(form, None)  # it is made of the weights as they are now
                graph = self._make(form)
                if self.keep:
                    cache.write(self.key(form), graph)
            self._graphs[form] = graph
        return self._graphs[form]

    def _make(self, form: str) -> bytes:
        network = _FORMS[form](self.network)
        first, second = (
            make_example(network, shape, fits=form != AS_IS) for shape in ((2, 3), (4, 3))
        )
        try:
            graph = trace(Logits(network.eval()), first, OUTPUT)
        except UNTRACEABLE as error:
            raise SettingError(
                f"engine {self.engine}: cannot take {type(self.network).__name__} "
                f"({first_line(error)}); take exact"
            ) from error
        self._check(graph, [date.repeat(2, 1, 1, 1) for date in second])
        return graph

    def _check(self, graph: bytes, pair: Sequence[Tensor]) -> None:
        """Refuses a graph that does something else at another size."""
        if not gives(
            lambda: self.open_graph(graph, None)(),
            Logits(self.network),
            pair,
            TOLERANCE[self.precision],
        ):
            raise SettingError(
                f"engine {self.engine}: takes {type(self.network).__name__} at one size only; "
                "take exact"
            )

    def key(self, form: str) -> str:
        """Under which a form's graph is kept; the weights are hashed once for each."""
        if form not in self._keys:
            parts = [self.network.fingerprint(), _source(self.network), form]
            self._keys[form] = digest_of([*parts, *self.describe().values()])
        return self._keys[form]


def digest_of(parts: Sequence[str]) -> str:
    """A key of what differs in any of some lines."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _source(network: nn.Module) -> str:
    """A hash of the files that say what a network and its rewriting do, but for torch and timm."""
    kinds = {type(module) for module in network.modules()}
    own = [kind for kind in kinds if kind.__module__.partition(".")[0] not in ("torch", "timm")]
    files = {inspect.getsourcefile(kind) for kind in (*own, Logits, Exact, Winograd)} - {None}
    return fingerprint(sorted(file_fingerprint(str(file)) for file in files))


def make_example(
    network: ChangeNetwork, more: tuple[int, int] = (2, 3), *, fits: bool
) -> tuple[Tensor, Tensor]:
    """Two dates whose sides are multiples of the stride, or are none.

    Args:
        network: What takes them.
        more: By how many strides their sides exceed the least.
        fits: Whether they are multiples.
    """
    least = -(-max(64, network.minimum_size) // network.stride)
    sides = [(least + one) * network.stride + (0 if fits else one) for one in more]
    random = torch.Generator().manual_seed(0)
    before, after = torch.rand((2, 1, network.bands, *sides), generator=random)
    return before, after

"""Graphs that engines run: of which form of a network, and whether they do the same."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ctma.engines.rewriting import fold_norms, rewrite
from ctma.engines.runtimes import Run
from ctma.engines.tracing import UNTRACEABLE, gives, trace
from ctma.engines.winograd import Winograd
from ctma.errors import SettingError, first_line
from ctma.files import file_fingerprint, fingerprint
from ctma.models.base import ChangeNetwork
from ctma.models.layers import Rewriting

TOLERANCE = {"float32": 1e-3, "bf16": 1e-1}
"""By how much logits of a new graph may be off at another size than it was traced at, as a
share of the largest; a graph that fixed a size is off by much more."""

OUTPUT = "logits"

AS_IS, REWRITTEN = "as it is", "rewritten"
JOINED, TILED = "rewritten but for joins", "rewritten, wide convolutions in tiles"
FORMS: dict[str, Callable[[ChangeNetwork], ChangeNetwork]] = {
    AS_IS: fold_norms,
    REWRITTEN: rewrite,
    JOINED: partial(rewrite, rewriting=Rewriting(joins=False)),
    TILED: partial(rewrite, rewriting=Rewriting(tiles=True)),
}
"""Forms of a network that graphs are made of."""


class Logits(nn.Module):
    """A network that gives its fine logits alone."""

    def __init__(self, network: ChangeNetwork):
        super().__init__()
        self.network = network

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """(B, 1, H, W)."""
        return self.network(before, after).fine


def make_graph(
    network: ChangeNetwork, form: str, engine: str, precision: str, open_graph: Opener
) -> bytes:
    """A graph of a form of a network, checked at another size than it was traced at.

    Args:
        network: In evaluation mode, on the CPU.
        form: One of ``FORMS``.
        engine: Which engine is to run the graph, for errors.
        precision: In which.
        open_graph: What makes a session of the graph.

    Raises:
        SettingError: If the network cannot be turned into a graph, or only for one size.
    """
    kind, formed = type(network).__name__, FORMS[form](network)
    first, second = (make_example(formed, shape, fits=form != AS_IS) for shape in ((2, 3), (4, 3)))
    try:
        graph = trace(Logits(formed.eval()), first, OUTPUT)
    except UNTRACEABLE as error:
        raise SettingError(
            f"engine {engine}: cannot take {kind} ({first_line(error)}); take exact"
        ) from error
    pair = [date.repeat(2, 1, 1, 1) for date in second]
    if not gives(lambda: open_graph(graph), Logits(network), pair, TOLERANCE[precision]):
        raise SettingError(f"engine {engine}: takes {kind} at one size only; take exact")
    return graph


Opener = Callable[[bytes], Run]


def find_source(network: nn.Module) -> str:
    """A hash of the files that say what a network and its rewriting do, but for torch and timm."""
    kinds = {type(module) for module in network.modules()}
    own = [kind for kind in kinds if kind.__module__.partition(".")[0] not in ("torch", "timm")]
    makers: list[Any] = [*own, Logits, Winograd, rewrite]
    files = {inspect.getsourcefile(maker) for maker in makers} - {None}
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

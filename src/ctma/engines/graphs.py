"""Makes the graphs that engines run, and checks that they agree with the network."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ctma.engines.forms import AS_IS, JOINED, REWRITTEN, TILED
from ctma.engines.rewriting import fold_norms, rewrite
from ctma.engines.runtimes import Run
from ctma.engines.tracing import UNTRACEABLE, gives, trace
from ctma.engines.winograd import Winograd
from ctma.errors import SettingError, first_line
from ctma.files import file_fingerprint, fingerprint
from ctma.models.base import ChangeNetwork
from ctma.models.layers import Rewriting

TOLERANCE = {"float32": 1e-3, "bf16": 1e-1}
"""Largest error of a new graph's logits at another size than that of the trace.

The error is a share of the largest logit. A graph that works at one size only has far larger
errors."""

OUTPUT = "logits"

FORMS: dict[str, Callable[[ChangeNetwork], ChangeNetwork]] = {
    AS_IS: fold_norms,
    REWRITTEN: rewrite,
    JOINED: partial(rewrite, rewriting=Rewriting(joins=False)),
    TILED: partial(rewrite, rewriting=Rewriting(tiles=True)),
}
"""Functions that make each form of a network, by the form's name."""


class Logits(nn.Module):
    """A network that returns only its fine logits."""

    def __init__(self, network: ChangeNetwork):
        super().__init__()
        self.network = network

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """(B, 1, H, W)."""
        return self.network(before, after).fine


def make_graph(
    network: ChangeNetwork, form: str, engine: str, precision: str, open_graph: Opener
) -> bytes:
    """Makes a graph of a form of a network, and checks the graph at a second size.

    Args:
        network: The network, in evaluation mode, on the CPU.
        form: One of ``FORMS``.
        engine: Name of the engine that runs the graph, for errors.
        precision: Precision of the engine.
        open_graph: Makes a session of the graph.

    Raises:
        SettingError: If torch cannot trace the network, or the graph works at one size only.
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


def find_source(network: nn.Module) -> str | None:
    """A hash of the source files of a network and its rewriting, without torch and timm.

    ``None`` where a class has no file, as in a notebook.
    """
    kinds = {type(module) for module in network.modules()}
    classes = [kind for kind in kinds if kind.__module__.partition(".")[0] not in ("torch", "timm")]
    makers: list[Any] = [*classes, Logits, Winograd, rewrite]
    try:
        files = {inspect.getsourcefile(maker) for maker in makers} - {None}
        return fingerprint(sorted(file_fingerprint(str(file)) for file in files))
    except OSError:
        return None


def make_example(
    network: ChangeNetwork, more: tuple[int, int] = (2, 3), *, fits: bool
) -> tuple[Tensor, Tensor]:
    """Two random images whose sides are multiples of the stride, or are not.

    Args:
        network: The network that takes the images.
        more: Number of strides by which height and width exceed the smallest size.
        fits: Whether the sides are multiples of the stride.
    """
    least = -(-max(64, network.minimum_size) // network.stride)
    sides = [(least + one) * network.stride + (0 if fits else one) for one in more]
    random = torch.Generator().manual_seed(0)
    before, after = torch.rand((2, 1, network.bands, *sides), generator=random)
    return before, after

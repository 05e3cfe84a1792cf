"""OpenVINO: the graph, compiled for this processor."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

from ctma.devices import find_processor, find_units
from ctma.engines import cache
from ctma.engines.forms import JOINED, REWRITTEN, TILED
from ctma.engines.graph import GraphEngine, digest_of
from ctma.engines.runtimes import Run, compile_openvino, open_compiled, open_openvino
from ctma.engines.sessions import Shape


@dataclass(frozen=True)
class Known:
    """What the engine has to know of a network, to run its graphs from the cache without torch.

    Attributes:
        stride: Stride of the network's coarsest features, in pixels.
        precision: The precision that the engine computes in.
        threads: Number of threads that torch uses.
        units: The processor's units for bf16 and int8 arithmetic.
        facts: All facts that the bits of the outputs depend on, as ``Engine.describe`` gives them.
        keys: The cache key of each form's graph.
    """

    stride: int
    precision: str
    threads: int
    units: list[str]
    facts: dict[str, str]
    keys: dict[str, str]


class OpenVino(GraphEngine):
    """Runs the graph with OpenVINO."""

    name = "openvino"
    summary = "the rewritten network as a graph, compiled for this processor by OpenVINO"
    precisions = ("float32", "bf16")
    packages = ("openvino", "onnx")
    extra = "openvino"
    rank: ClassVar = {"bf16": 10, "float32": 30}
    measured = ("bf16",)
    shapes = 8

    def form_for(self, shape: Shape) -> str:
        """The form of the network that takes inputs of a shape.

        On AMX in bf16, convolutions over joined maps stay whole, because transposed convolutions
        are slow there. In float32, tiles compute wide convolutions.
        """
        form = super().form_for(shape)
        if form != REWRITTEN:
            return form
        if self.precision == "float32":
            return TILED
        return JOINED if "amx_bf16" in self.units() else REWRITTEN

    def open(self, form: str, shape: Shape | None) -> Callable[[], Run]:
        """Opens the cached compiled graph of a form and a shape, or compiles the form's graph."""
        if shape is None or not self.cache:
            return super().open(form, shape)
        settings, key = self._settings(), self._compiled_key(form, shape)
        if compiled := cache.read(key):
            # OpenVINO refuses compiled graphs of another build of the same version.
            with suppress(RuntimeError):
                return open_compiled(compiled, **settings)
        compiled = compile_openvino(self._graph(form), shape, **settings)
        cache.write(key, compiled)
        return open_compiled(compiled, **settings)

    def open_graph(self, graph: bytes, shape: Shape | None) -> Callable[[], Run]:
        """Compiles a graph; each thread gets its own request."""
        return open_openvino(graph, shape=shape, **self._settings())

    def _compiled_key(self, form: str, shape: Shape) -> str:
        """The cache key of a compiled graph; contains the graph's key, and so the weights' hash."""
        more = (shape, self._settings(), find_processor(), self.units())
        return digest_of([self.key(form), *map(str, more)])

    def known(self) -> Known:
        """What the engine has to know next time, for the forms that were asked for so far."""
        return Known(
            self.stride, self.precision, self.threads(), self.units(), self.describe(),
            dict(self._keys),
        )  # fmt: skip

    def units(self) -> list[str]:
        """The processor's units for bf16 and int8 arithmetic."""
        return find_units()

    def _settings(self) -> dict[str, Any]:
        threads = None if self.streams else self.threads()
        return {"precision": self.precision, "threads": threads, "streams": self.streams}

"""OpenVINO: the graph, compiled for this processor."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

from ctma.devices import find_processor, find_units
from ctma.inference.engines import cache
from ctma.inference.engines.engine import version_of
from ctma.inference.engines.graph import JOINED, REWRITTEN, TILED, GraphEngine, digest_of
from ctma.inference.engines.sessions import Shape
from ctma.inference.runtimes import Run, compile_openvino, open_compiled, open_openvino


class OpenVino(GraphEngine):
    """Runs the graph with OpenVINO."""

    engine = "openvino"
    precisions = ("float32", "bf16")
    shapes = 4

    def form_for(self, shape: Shape) -> str:
        """In bf16, in which transposed convolutions are slow, joined maps stay joined; in float32
        wide convolutions are done in tiles.
        """
        form = super().form_for(shape)
        if form != REWRITTEN:
            return form
        return JOINED if self.precision == "bf16" else TILED

    def versions(self) -> dict[str, str]:
        """OpenVINO's."""
        return version_of("openvino")

    def open(self, form: str, shape: Shape | None) -> Callable[[], Run]:
        """Of the form's graph, or of what was compiled of it for this shape before."""
        if shape is None or not self.keep:
            return super().open(form, shape)
        settings, key = self._settings(), self._compiled_key(form, shape)
        if compiled := cache.read(key):
            # OpenVINO refuses what another build of its version compiled.
            with suppress(RuntimeError):
                return open_compiled(compiled, **settings)
        compiled = compile_openvino(self._graph(form), shape, **settings)
        cache.write(key, compiled)
        return open_compiled(compiled, **settings)

    def open_graph(self, graph: bytes, shape: Shape | None) -> Callable[[], Run]:
        """Compiles a graph; each thread gets a request of its own."""
        return open_openvino(graph, shape=shape, **self._settings())

    def _compiled_key(self, form: str, shape: Shape) -> str:
        """By the graph's own, so that what is kept is of the weights that it was made of."""
        more = (shape, self._settings(), find_processor(), find_units())
        return digest_of([self.key(form), *map(str, more)])

    def _settings(self) -> dict[str, Any]:
        threads = torch.get_num_threads()
        return {"precision": self.precision, "threads": threads, "streams": self.streams}

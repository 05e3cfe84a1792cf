"""OpenVINO: the graph, compiled for this processor."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ctma.inference.engines.engine import version_of
from ctma.inference.engines.graph import JOINED, REWRITTEN, TILED, GraphEngine
from ctma.inference.engines.sessions import Shape
from ctma.inference.runtimes import Run, open_openvino


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

    def open_graph(self, graph: bytes, shape: Shape | None) -> Callable[[], Run]:
        """Compiles a graph; each thread gets a request of its own."""
        threads = torch.get_num_threads()
        return open_openvino(
            graph, self.precision, shape=shape, threads=threads, streams=self.streams
        )

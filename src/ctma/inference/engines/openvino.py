"""OpenVINO: the graph, compiled for this processor."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ctma.inference.engines.engine import version_of
from ctma.inference.engines.graph import JOINED, REWRITTEN, GraphEngine
from ctma.inference.engines.sessions import Shape
from ctma.inference.runtimes import Run, open_openvino


class OpenVino(GraphEngine):
    """Runs the graph with OpenVINO."""

    engine = "openvino"
    precisions = ("float32", "bf16")
    shapes = 4

    def form_for(self, shape: Shape) -> str:
        """Joined maps stay joined in bf16, in which transposed convolutions are slow."""
        form = super().form_for(shape)
        return JOINED if form == REWRITTEN and self.precision == "bf16" else form

    def versions(self) -> dict[str, str]:
        """OpenVINO's."""
        return version_of("openvino")

    def open_graph(self, graph: bytes, shape: Shape | None) -> Callable[[], Run]:
        """Compiles a graph; each thread gets a request of its own."""
        threads = torch.get_num_threads()
        return open_openvino(
            graph, self.precision, shape=shape, threads=threads, streams=self.streams
        )

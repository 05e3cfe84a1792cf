"""ONNX Runtime: the graph on whatever processor."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ctma.inference.engines.engine import version_of
from ctma.inference.engines.graph import GraphEngine
from ctma.inference.engines.sessions import Shape
from ctma.inference.runtimes import Run, open_onnx


class Onnx(GraphEngine):
    """Runs the graph with ONNX Runtime."""

    engine = "onnx"
    precisions = ("float32",)

    def versions(self) -> dict[str, str]:
        """ONNX Runtime's."""
        return version_of("onnxruntime")

    def open_graph(self, graph: bytes, shape: Shape | None) -> Callable[[], Run]:
        """Starts a session, which takes inputs of any shape."""
        return open_onnx(graph, threads=torch.get_num_threads(), streams=self.streams)

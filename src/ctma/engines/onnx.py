"""ONNX Runtime: the graph on any processor."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from ctma.engines.graph import GraphEngine
from ctma.engines.runtimes import Run, open_onnx
from ctma.engines.sessions import Shape


class Onnx(GraphEngine):
    """Runs the graph with ONNX Runtime."""

    name = "onnx"
    summary = "the rewritten network as a graph in ONNX Runtime"
    packages = ("onnxruntime", "onnx")
    extra = "onnx"
    rank: ClassVar = {"float32": 50}

    def open_graph(self, graph: bytes, shape: Shape | None) -> Callable[[], Run]:
        """Starts a session, which takes inputs of any shape."""
        return open_onnx(graph, threads=self.threads(), streams=self.streams)

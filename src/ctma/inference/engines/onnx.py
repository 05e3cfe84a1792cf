"""ONNX Runtime: the graph on whatever processor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ctma.errors import extras
from ctma.inference.engines.engine import version_of
from ctma.inference.engines.graph import GraphEngine, Run, Shape
from ctma.inference.graphs import INPUTS


class Onnx(GraphEngine):
    """Runs the graph with ONNX Runtime."""

    engine = "onnx"
    precisions = ("float32",)

    def versions(self) -> dict[str, str]:
        """ONNX Runtime's."""
        return version_of("onnxruntime")

    def open(self, graph: bytes, shape: Shape | None) -> Callable[[], Run]:
        """Starts a session, which may be called by many threads."""
        session = open_session(graph, self.streams)

        def run(*inputs: NDArray[np.float32]) -> NDArray[np.float32]:
            found: NDArray[np.float32] = session.run(None, dict(zip(INPUTS, inputs, strict=True)))[
                0
            ]
            return found

        return lambda: run


def open_session(graph: bytes, streams: int | None) -> Any:
    """A session of ONNX Runtime on the CPU."""
    with extras():
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1 if streams else torch.get_num_threads()
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

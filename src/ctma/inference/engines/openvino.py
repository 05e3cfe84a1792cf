"""OpenVINO: the graph, compiled for this processor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from ctma.errors import extras
from ctma.inference.engines.engine import version_of
from ctma.inference.engines.graph import JOINED, REWRITTEN, GraphEngine, Run, Shape

_HINTS = {"float32": "f32", "bf16": "bf16"}


class OpenVino(GraphEngine):
    """Runs the graph with OpenVINO."""

    engine = "openvino"
    precisions = ("float32", "bf16")
    shapes = 4

    @property
    def form(self) -> str:
        """Joined maps stay joined in bf16, in which transposed convolutions are slow."""
        return REWRITTEN if self.precision == "float32" else JOINED

    def versions(self) -> dict[str, str]:
        """OpenVINO's."""
        return version_of("openvino")

    def open(self, graph: bytes, shape: Shape | None) -> Callable[[], Run]:
        """Compiles a graph; each thread gets a request of its own."""
        return open_graph(graph, shape, _HINTS[self.precision], self.streams)


def open_graph(
    graph: bytes, shape: Shape | None, hint: str, streams: int | None
) -> Callable[[], Run]:
    """Compiles a graph for this processor.

    Args:
        graph: ONNX.
        shape: Of each input; ``None`` for any.
        hint: The precision in which it computes, as OpenVINO calls it.
        streams: See :class:`GraphEngine`.

    Returns:
        What makes a session for each thread that calls.
    """
    with extras():
        import openvino
    core = openvino.Core()
    model = core.read_model(graph)
    if shape is not None:
        model.reshape({port: list(shape) for port in model.inputs})
    compiled = core.compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": streams or torch.get_num_threads(),
            "NUM_STREAMS": streams or 1,
            # Processes side by side would all be tied to the first cores.
            "ENABLE_CPU_PINNING": False,
        },
    )

    def session() -> Run:
        request = compiled.create_infer_request()

        def run(*inputs: NDArray[np.float32]) -> NDArray[np.float32]:
            # Copied: the request writes its next result where this one lies.
            return np.array(request.infer(dict(enumerate(inputs)), share_inputs=True)[0])

        return run

    return session

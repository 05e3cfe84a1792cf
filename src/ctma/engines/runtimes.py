"""Programs that run graphs; nothing here needs torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctma.errors import extras, first_line

Run = Callable[..., NDArray[np.float32]]
"""A session: float32 inputs (B, bands, H, W), in order, to one output (B, 1, H, W)."""

INPUTS = ("before", "after")
"""What the inputs of a graph are called."""

HINTS = {"float32": "f32", "bf16": "bf16", "int8": "bf16"}
"""Precisions as OpenVINO calls them; of an 8-bit graph it is that of what is not in 8 bits."""


def open_openvino(
    graph: bytes | Path,
    precision: str,
    *,
    shape: Sequence[int] | None = None,
    threads: int | None = None,
    streams: int | None = None,
    inputs: Sequence[str] | None = None,
) -> Callable[[], Run]:
    """Compiles a graph for this processor.

    Args:
        graph: ONNX, or the file of a model.
        precision: One of ``HINTS``.
        shape: Of each input; ``None`` for any.
        threads: How many compute; all cores by default.
        streams: How many threads call it at once, each then computing alone.
        inputs: Their names in the order they are given in; that of the graph by default.

    Returns:
        What makes a session for each thread that calls.

    Raises:
        MissingExtraError: If OpenVINO is not installed.
    """
    compiled = _compile(graph, shape, _configuration(precision, threads, streams))
    return _sessions(compiled, inputs)


def compile_openvino(
    graph: bytes,
    shape: Sequence[int],
    precision: str,
    threads: int | None = None,
    streams: int | None = None,
) -> bytes:
    """What ``open_compiled`` takes, of a graph; arguments as of ``open_openvino``."""
    content = _compile(graph, shape, _configuration(precision, threads, streams)).export_model()
    return bytes(content.getvalue())


def open_compiled(
    compiled: bytes, precision: str, threads: int | None = None, streams: int | None = None
) -> Callable[[], Run]:
    """Opens what was compiled by the same version for the same processor and settings."""
    with extras():
        import openvino
    configuration = _configuration(precision, threads, streams)
    return _sessions(openvino.Core().import_model(compiled, "CPU", configuration))


def _configuration(precision: str, threads: int | None, streams: int | None) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": streams or threads or count_cores(),
        "NUM_STREAMS": streams or 1,
        # Processes side by side would all be tied to the first cores.
        "ENABLE_CPU_PINNING": False,
    }


def _compile(
    graph: bytes | Path, shape: Sequence[int] | None, configuration: dict[str, Any]
) -> Any:
    with extras():
        import openvino
    core = openvino.Core()
    model = core.read_model(graph)
    if shape is not None:
        model.reshape({port: list(shape) for port in model.inputs})
    return core.compile_model(model, "CPU", configuration)


def _sessions(compiled: Any, names: Sequence[str] | None = None) -> Callable[[], Run]:
    """What makes a session for each thread that calls."""
    ports = names or range(len(compiled.inputs))

    def session() -> Run:
        request = compiled.create_infer_request()

        def run(*inputs: NDArray[np.float32]) -> NDArray[np.float32]:
            given = dict(zip(ports, inputs, strict=True))
            # Copied: the request writes its next result where this one lies.
            return np.array(request.infer(given, share_inputs=True)[0])

        return run

    return session


def open_onnx(
    graph: bytes | Path,
    *,
    threads: int | None = None,
    streams: int | None = None,
    inputs: Sequence[str] | None = None,
) -> Callable[[], Run]:
    """Starts a session of ONNX Runtime on the CPU, which may be called by many threads.

    Args:
        graph: ONNX, or its file.
        threads: How many compute; all cores by default.
        streams: How many threads call it at once, each then computing alone.
        inputs: Their names in the order they are given in; that of the graph by default.

    Raises:
        MissingExtraError: If ONNX Runtime is not installed.
    """
    with extras():
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1 if streams else threads or count_cores()
    options.inter_op_num_threads = 1
    given: Any = str(graph) if isinstance(graph, Path) else graph
    with onnx_errors():
        session = onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    names = inputs or [port.name for port in session.get_inputs()]

    def run(*inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        with onnx_errors():
            (found,) = session.run(None, dict(zip(names, inputs, strict=True)))
        return np.asarray(found)

    return lambda: run


@contextmanager
def onnx_errors() -> Iterator[None]:
    """Makes ONNX Runtime's errors known ones: they have no base of their own, but a module."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("onnxruntime"):
            raise
        raise RuntimeError(first_line(error)) from error


def count_cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1

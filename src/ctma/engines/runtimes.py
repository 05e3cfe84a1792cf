"""Programs that run graphs; nothing here needs torch."""

from __future__ import annotations

import os
import threading
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
"""Names of a graph's inputs."""

_TABLE = threading.Lock()

HINTS = {"float32": "f32", "bf16": "bf16", "int8": "bf16"}
"""OpenVINO's names of precisions. For an 8-bit graph, this is the precision of the other layers."""


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
        graph: An ONNX graph, or the path of a model file.
        precision: One of ``HINTS``.
        shape: Shape of each input; ``None`` for any.
        threads: Number of threads that compute; all cores by default.
        streams: Number of parallel callers; each call then computes on one thread.
        inputs: Names of the inputs in the order of the arguments; the graph's order by default.

    Returns:
        A function that makes a session, to be called once in each thread.

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
    """A compiled graph for ``open_compiled``; see ``open_openvino`` for the arguments."""
    content = _compile(graph, shape, _configuration(precision, threads, streams)).export_model()
    return bytes(content.getvalue())


def open_compiled(
    compiled: bytes, precision: str, threads: int | None = None, streams: int | None = None
) -> Callable[[], Run]:
    """Opens a compiled graph; OpenVINO version, processor and settings must be the same."""
    openvino = _import_openvino()
    configuration = _configuration(precision, threads, streams)
    return _sessions(openvino.Core().import_model(compiled, "CPU", configuration))


def _import_openvino() -> Any:
    """OpenVINO, with its table of types made.

    OpenVINO makes the table at the first inference. If two threads begin at once, each waits for
    the other for ever: one holds Python's lock, the other the table's.
    """
    with extras():
        import openvino
    with _TABLE:
        openvino.Type.f32.to_dtype()
    return openvino


def _configuration(precision: str, threads: int | None, streams: int | None) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": streams or threads or count_cores(),
        "NUM_STREAMS": streams or 1,
        # With pinning, parallel processes would all run on the first cores.
        "ENABLE_CPU_PINNING": False,
    }


def _compile(
    graph: bytes | Path, shape: Sequence[int] | None, configuration: dict[str, Any]
) -> Any:
    openvino = _import_openvino()
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
            port_values = dict(zip(ports, inputs, strict=True))
            # A copy, because the request overwrites this result with its next one.
            return np.array(request.infer(port_values, share_inputs=True)[0])

        return run

    return session


def open_onnx(
    graph: bytes | Path,
    *,
    threads: int | None = None,
    streams: int | None = None,
    inputs: Sequence[str] | None = None,
) -> Callable[[], Run]:
    """Starts a session of ONNX Runtime on the CPU, which many threads may call.

    Args:
        graph: An ONNX graph, or the path of its file.
        threads: Number of threads that compute; all cores by default.
        streams: Number of parallel callers; each call then computes on one thread.
        inputs: Names of the inputs in the order of the arguments; the graph's order by default.

    Raises:
        MissingExtraError: If ONNX Runtime is not installed.
    """
    with extras():
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1 if streams else threads or count_cores()
    options.inter_op_num_threads = 1
    model: Any = str(graph) if isinstance(graph, Path) else graph
    with onnx_errors():
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = inputs or [port.name for port in session.get_inputs()]

    def run(*inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        with onnx_errors():
            (output,) = session.run(None, dict(zip(names, inputs, strict=True)))
        return np.asarray(output)

    return lambda: run


@contextmanager
def onnx_errors() -> Iterator[None]:
    """Turns ONNX Runtime's errors, which only their module identifies, into ``RuntimeError``."""
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

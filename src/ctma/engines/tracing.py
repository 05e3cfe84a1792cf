"""Turns networks into ONNX graphs, which other programs run.

Torch traces a graph: the graph contains the operations of the network on one example. The graph
reads shapes from its inputs, so height, width and number of pairs stay free.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from ctma.engines.runtimes import INPUTS, Run
from ctma.errors import extras
from ctma.models.base import check_numbers

OPSET = 17
"""The ONNX operator set, which every runtime of the last years supports."""

UNTRACEABLE = (RuntimeError, ValueError, TypeError, AttributeError, AssertionError)
"""The usual errors of torch if it cannot make a graph of a module."""


def trace(
    module: nn.Module,
    example: Sequence[Tensor],
    output: str,
    *,
    inputs: Sequence[str] = INPUTS,
    free: bool = True,
) -> bytes:
    """Makes an ONNX model of a module.

    Args:
        module: The module, in evaluation mode.
        example: Example inputs of the module, (B, C, H, W) each.
        output: Name of the model's output.
        inputs: Names of the model's inputs.
        free: Whether batch size, height and width stay free. Otherwise the model takes only the
            shapes of the example.

    Raises:
        MissingExtraError: If ONNX is not installed.
    """
    with extras():
        import onnx  # noqa: F401  (torch writes with it)
    axes = {0: "batch", 2: "height", 3: "width"}
    with _tracing(), TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        # Traced, because the newer exporter does not end for networks that pad free sizes to
        # multiples.
        torch.onnx.export(
            module,
            tuple(example),
            path,
            input_names=list(inputs),
            output_names=[output],
            dynamic_axes=dict.fromkeys((*inputs, output), axes) if free else None,
            opset_version=OPSET,
            dynamo=False,
        )
        graph = path.read_bytes()
        return graph if free else _fix_sizes(graph, module(*example).shape)


def _fix_sizes(graph: bytes, shape: Sequence[int]) -> bytes:
    """Sets the output sizes of a graph, because tracing leaves sizes that depend on inputs open."""
    import onnx

    model = onnx.load_from_string(graph)
    sizes = model.graph.output[0].type.tensor_type.shape.dim
    for size, value in zip(sizes, shape, strict=True):
        size.dim_value = value
    return bytes(model.SerializeToString())


def gives(
    open_graph: Callable[[], Run],
    module: Callable[[Tensor, Tensor], Tensor],
    pair: Sequence[Tensor],
    tolerance: float,
) -> bool:
    """Whether a graph agrees with its module at another size than that of the trace.

    Args:
        open_graph: Makes a session of the graph.
        module: The traced module, or an equivalent one.
        pair: Images of another size than the example, (B, C, H, W) each.
        tolerance: Largest error, as a share of the largest absolute value, or of 1 if that is
            below 1.

    Raises:
        CheckpointError: If the module gives NaN or infinite values.
    """
    with torch.no_grad():
        expected = check_numbers(module(*pair).float()).numpy()
    try:
        output = open_graph()(*(date.numpy() for date in pair))
        apart = float(np.abs(output - expected).max())
    except (RuntimeError, ValueError):
        return False
    return apart <= tolerance * max(1.0, float(np.abs(expected).max()))


@contextmanager
def _tracing() -> Iterator[None]:
    """Turns off gradients and warnings for authors of networks.

    The warnings are about checks of shapes, which stay outside the graph on purpose.
    """
    with torch.no_grad(), warnings.catch_warnings():
        for kind in (torch.jit.TracerWarning, DeprecationWarning, FutureWarning, UserWarning):
            warnings.simplefilter("ignore", kind)
        yield

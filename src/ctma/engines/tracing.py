"""Networks as graphs in the form of ONNX, which other programs run.

Graphs are traced: what they hold is what the network did with one example. Shapes are taken
from the inputs on the way, so that height, width and number of pairs stay free.
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
"""Of ONNX; understood by every runtime of the last years."""

UNTRACEABLE = (RuntimeError, ValueError, TypeError, AttributeError)
"""What torch raises, as a rule, where it cannot make a graph of a module."""


def trace(
    module: nn.Module,
    example: Sequence[Tensor],
    output: str,
    *,
    inputs: Sequence[str] = INPUTS,
    free: bool = True,
) -> bytes:
    """An ONNX model of a module.

    Args:
        module: In evaluation mode.
        example: Its inputs, (B, C, H, W) each.
        output: What its output is called.
        inputs: What its inputs are called.
        free: Whether number, height and width stay free; else they are those of the example.

    Raises:
        MissingExtraError: If ONNX is not installed.
    """
    with extras():
        import onnx  # noqa: F401  (torch writes with it)
    axes = {0: "batch", 2: "height", 3: "width"}
    with _tracing(), TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        # By tracing: the newer exporter does not come to an end where sizes are filled up to
        # multiples and stay free.
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
    """The graph with the sizes of its output, of which tracing leaves those that follow open."""
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
    """Whether a graph gives what its module does, as it must at another size than its example.

    Args:
        open_graph: Makes a session of what was traced.
        module: What it was traced from, or does the same.
        pair: Of another size, (B, C, H, W) each.
        tolerance: How far values may be off, as a share of the largest or of 1.

    Raises:
        CheckpointError: If the module gives values that are no numbers.
    """
    with torch.no_grad():
        expected = check_numbers(module(*pair).float()).numpy()
    try:
        found = open_graph()(*(date.numpy() for date in pair))
        apart = float(np.abs(found - expected).max())
    except (RuntimeError, ValueError):
        return False
    return apart <= tolerance * max(1.0, float(np.abs(expected).max()))


@contextmanager
def _tracing() -> Iterator[None]:
    """Without gradients, and without the warnings that are meant for those who write networks:
    checks of shapes, which are what they warn of, stay outside of a graph on purpose.
    """
    with torch.no_grad(), warnings.catch_warnings():
        for kind in (torch.jit.TracerWarning, DeprecationWarning, FutureWarning, UserWarning):
            warnings.simplefilter("ignore", kind)
        yield

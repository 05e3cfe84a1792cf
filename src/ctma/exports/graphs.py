"""Traces networks as graphs that return the calibrated probability."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ctma.engines.graphs import make_example
from ctma.engines.listing import find_engine
from ctma.engines.rewriting import fold_norms
from ctma.engines.runtimes import Run, open_onnx, open_openvino
from ctma.engines.tracing import UNTRACEABLE, gives, trace
from ctma.errors import SettingError, first_line
from ctma.exports.exported import PROBABILITY
from ctma.models.base import ChangeNetwork

TOLERANCE = 1e-3
"""Largest allowed difference of a probability at another image size than the traced size."""

_OPENERS: dict[str, Callable[[bytes], Run]] = {
    "onnx": lambda graph: open_onnx(graph)(),
    "openvino": lambda graph: open_openvino(graph, "float32")(),
}


class Probability(nn.Module):
    """A network that returns its calibrated probability."""

    def __init__(self, network: ChangeNetwork):
        super().__init__()
        self.network = network

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """(B, 1, H, W) in [0, 1]."""
        return self.network.probability(self.network(before, after).fine)


class Stacked(Probability):
    """A ``Probability`` with one input: both dates, stored values divided by 255."""

    def forward(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """Takes (B, 2 bands, H, W) in [0, 1] and returns (B, 1, H, W)."""
        scaled = (images * (255 / self.network.usage.scaling)).clamp(max=1)
        bands = self.network.bands
        return super().forward(scaled[:, :bands], scaled[:, bands:])


def trace_probability(network: ChangeNetwork, runtime: str) -> bytes:
    """Traces a network as an ONNX graph that returns calibrated probability for any size.

    Args:
        network: The network, in evaluation mode.
        runtime: The runtime for the graph, ``"onnx"`` or ``"openvino"``. If the runtime is
            installed, its output must match the network's output at a size other than the traced
            size.

    Raises:
        SettingError: If the network cannot be traced, or only for one image size.
    """
    folded = fold_norms(network)
    final = Probability(folded).eval()
    refusal = (
        f"{type(network).__name__}: cannot be written as a graph that takes any size and "
        f"{runtime} runs; try .pt2"
    )
    try:
        graph = trace(final, make_example(folded, fits=False), PROBABILITY)
    except UNTRACEABLE as error:
        raise SettingError(f"{refusal} ({first_line(error)})") from error
    pair = [date.repeat(2, 1, 1, 1) for date in make_example(folded, (4, 3), fits=False)]
    if not find_engine(runtime).missing() and not gives(
        lambda: _OPENERS[runtime](graph), final, pair, TOLERANCE
    ):
        raise SettingError(refusal)
    return graph

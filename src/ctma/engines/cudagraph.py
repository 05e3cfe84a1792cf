"""The rewritten network on an NVIDIA GPU: launches recorded once for each size, then replayed.

A small network spends more time on launches than on arithmetic. A replay launches all operations at
once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ctma.engines.exact import Exact
from ctma.errors import SettingError, first_line

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 4
"""Sizes whose recordings are kept; each holds the memory of all its operations."""

WARM_UPS = 3
"""Runs before a recording, in which torch chooses its algorithms."""


@dataclass
class Recording:
    """The launches for pairs of one size.

    Attributes:
        pair: Both dates, where the launches read them.
        logits: The logits, where the launches write them.
        replay: Launches everything once more.
    """

    pair: tuple[Tensor, Tensor]
    logits: Tensor
    replay: Callable[[], None]

    def __call__(self, before: Tensor, after: Tensor) -> Tensor:
        """The change logits of a pair of this size."""
        for place, date in zip(self.pair, (before, after), strict=True):
            place.copy_(date)
        self.replay()
        return self.logits.clone()


class CudaGraph(Exact):
    """Replays recorded launches of the rewritten network; for one calling thread."""

    name = "cudagraph"
    summary = "the rewritten network on an NVIDIA GPU, recorded once at each size, then replayed"
    devices = ("cuda",)
    rank: ClassVar = {}
    measured: ClassVar = ()

    def __init__(self, network: Any, precision: str, **options: Any):
        super().__init__(network, precision, **options)
        self._recordings: dict[Any, Recording] = {}

    def run(self, before: Tensor, after: Tensor) -> Tensor:
        """Change logits; takes the network's inputs.

        Raises:
            SettingError: If the launches cannot be recorded, or a replay gives other logits.
        """
        recording = self._recordings.get(before.shape)
        if recording is None:
            recording = self._record(before, after)
            if len(self._recordings) == KEPT:
                del self._recordings[next(iter(self._recordings))]
            self._recordings[before.shape] = recording
        return recording(before, after)

    def _record(self, before: Tensor, after: Tensor) -> Recording:
        """Records a pair's launches, and compares a replay with the plain run."""
        import torch

        pair = before.clone(), after.clone()
        try:
            expected = self._warm_up(*pair)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                logits = super().run(*pair)
            recording = Recording(pair, logits, graph.replay)
            found = recording(before, after)
        except RuntimeError as error:
            raise SettingError(f"engine {self.name}: {first_line(error)}; take exact") from error
        if not torch.allclose(found.float(), expected.float(), rtol=1e-2, atol=1e-2):
            raise SettingError(f"engine {self.name}: a replay gives other logits; take exact")
        return recording

    def _warm_up(self, before: Tensor, after: Tensor) -> Tensor:
        """Runs a pair on a stream of its own, as recordings need; returns the logits."""
        import torch

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                logits = super().run(before, after)
        torch.cuda.current_stream().wait_stream(stream)
        return logits

    def __getstate__(self) -> dict[str, Any]:
        """All attributes, without the recordings."""
        return vars(self) | {"_recordings": {}}

"""Base of the engines that run outside torch, in sessions."""

from __future__ import annotations

import copy
import threading
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ctma.engines.engine import Engine
from ctma.engines.runtimes import Run
from ctma.errors import SettingError, first_line

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]


class SessionEngine(Engine):
    """Runs on the CPU in sessions, one for each thread that calls.

    Attributes:
        streams: Number of parallel callers. Each call then computes on one thread, so the bits
            do not depend on this number. ``None``: one caller, and all cores compute.
        shapes: Number of input shapes that get their own, faster session. Further shapes share
            a session for any shape.
    """

    devices = ("cpu",)
    shapes: ClassVar[int] = 0

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.streams: int | None = None
        self._forget_sessions()

    @abstractmethod
    def open(self, form: str, shape: Shape | None) -> Callable[[], Run]:
        """Prepares a form of the network for inputs of one shape, or of any shape.

        Returns:
            A function that makes a session, to be called once in each thread.
        """

    def form_for(self, shape: Shape) -> str:
        """The form of the network that takes inputs of a shape."""
        return ""

    def run(self, before: Tensor, after: Tensor) -> Tensor:
        """Change logits; takes the network's inputs."""
        import torch

        self.network.check_inputs(before, after)
        return torch.from_numpy(self.run_arrays(before.float().numpy(), after.float().numpy()))

    def run_arrays(
        self, before: NDArray[np.float32], after: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Change logits (B, 1, H, W); takes the network's inputs as arrays, without torch.

        Raises:
            SettingError: If the session cannot take the shape.
        """
        inputs = (np.ascontiguousarray(date) for date in (before, after))
        try:
            return self._session(before.shape)(*inputs)
        except RuntimeError as error:
            raise SettingError(
                f"engine {self.name}: cannot take {tuple(before.shape)} ({first_line(error)})"
            ) from error

    def threads(self) -> int:
        """Number of threads that compute where there is one caller."""
        import torch

        return torch.get_num_threads()

    def with_streams(self, streams: int | None) -> Self:
        """A copy of the engine for another number of parallel callers."""
        if streams is None:
            return self
        other = copy.copy(self)
        other.streams = streams
        return other

    def __getstate__(self) -> dict[str, Any]:
        """All attributes, without the lock and the sessions of this process."""
        here = {"_lock", "_open", "_local"}
        return {name: value for name, value in vars(self).items() if name not in here}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget_sessions()

    def _forget_sessions(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[str, Shape | None], Callable[[], Run]] = {}
        self._local = threading.local()

    def _session(self, shape: Shape) -> Run:
        form = self.form_for(shape)
        mine: dict[Any, Run] = vars(self._local).setdefault("sessions", {})
        with self._lock:
            has_room = (form, shape) in self._open or len(self._open) < self.shapes
            key = form, tuple(shape) if has_room else None
            if key not in self._open:
                self._open[key] = self.open(*key)
        if key not in mine:
            mine[key] = self._open[key]()
        return mine[key]

"""Looks: what predicts the change probability of one pair of arrays; loads no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ctma.engines.sessions import SessionEngine
from ctma.errors import CheckpointError
from ctma.inference.resolution import enlarged_size
from ctma.models.usage import NO_NUMBERS, Usage
from ctma.types import Plane

Flip = tuple[int, ...]
"""The axes along which a view is flipped."""

Views = tuple[tuple[Flip, float], ...]
"""Views whose logits are averaged, each with its flip and its scale."""

VIEWS: Views = (((), 0.8), ((-1,), 1.25), ((-2,), 1.25), ((-1, -2), 0.8))
"""The four views that are averaged, each with its scale: upright, mirrored, upside down, both.

Views of one scale would share the errors of that scale."""

AS_IS: tuple[Flip, float] = ((), 1.0)
"""The view of a pair as it is."""


class Look(ABC):
    """Predicts the change probability of a pair; plain enough to travel to other processes.

    Attributes:
        callers: Number of threads that may call at once, each of which computes alone.
    """

    callers: int

    @abstractmethod
    def __call__(self, before: NDArray[Any], after: NDArray[Any]) -> Plane:
        """The change probability, (H, W).

        Args:
            before: (bands, H, W), 8-bit or in [0, 1].
            after: As ``before``.

        Raises:
            CheckpointError: If the network gives values that are no numbers.
        """

    def begin_thread(self) -> None:  # noqa: B027 (most looks need nothing)
        """Readies a thread that will call; each such thread calls this once."""

    def travelling(self) -> Look:
        """A copy on the CPU, for another process."""
        return deepcopy(self)

    def on(self, device: str) -> Look:
        """The same look on a device, where the engine runs on several kinds of them."""
        return self


@dataclass
class SessionLook(Look):
    """Looks through an engine that runs outside torch; loads no torch itself.

    Attributes:
        engine: The engine, for as many parallel callers.
        usage: How the network takes images.
        stride: Stride of the network's coarsest features, in pixels.
        minimum_size: The smallest height and width that the network takes.
        enlargement: Ratio by which the images are enlarged for the network.
        views: The views whose logits are averaged, see ``VIEWS``.
        callers: See ``Look``.
    """

    engine: SessionEngine
    usage: Usage
    stride: int
    minimum_size: int
    enlargement: float
    views: Views
    callers: int

    def __call__(self, before: NDArray[Any], after: NDArray[Any]) -> Plane:
        """The change probability, (H, W); see ``Look``."""
        height, width = before.shape[-2:]
        pair = [self._fill(_to_unit_range(date, self.usage.scaling)) for date in (before, after)]
        logits = np.mean([self._view(pair, *view) for view in self.views], axis=0)
        scaled = logits / np.float32(self.usage.temperature) + np.float32(self.usage.offset)
        probability = to_probability(scaled[:height, :width])
        if not np.isfinite(probability).all():
            raise CheckpointError(NO_NUMBERS)
        return probability

    def _view(self, pair: Sequence[Plane], flip: Flip, scale: float) -> Plane:
        """The logits of one view, flipped and resized back."""
        before, after = (np.flip(date, flip) for date in pair)
        return np.flip(self._logits(before, after, self.enlargement * scale), flip)

    def _logits(self, before: Plane, after: Plane, ratio: float) -> Plane:
        size = before.shape[-2:]
        if ratio == 1:
            return self.engine.run_arrays(before[None], after[None])[0, 0]
        seen = enlarged_size(size, ratio, self.stride, self.minimum_size)
        pair = (_resize(date, seen)[None] for date in (before, after))
        return _resize(self.engine.run_arrays(*pair)[0], size)[0]

    def _fill(self, image: Plane) -> Plane:
        """Pads an image below the least size by repeating its last rows and columns."""
        missing = [(0, max(self.minimum_size - length, 0)) for length in image.shape[-2:]]
        return np.pad(image, [(0, 0), *missing], mode="edge") if np.any(missing) else image


def to_probability(logits: Plane) -> Plane:
    """The logistic function of float32 logits."""
    with np.errstate(over="ignore"):  # a probability of 0
        return np.reciprocal(1 + np.exp(-logits))


def _to_unit_range(image: NDArray[Any], scaling: float) -> Plane:
    """Scales 8-bit values to [0, 1]; returns floats unchanged."""
    if image.dtype != np.uint8:
        return image
    return np.minimum(image / np.float32(scaling), np.float32(1))


def _resize(planes: Plane, size: Sequence[int]) -> Plane:
    """Resizes (C, H, W) to another height and width, bilinear with antialiasing."""
    height, width = size
    return np.stack(
        [
            np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR))
            for plane in planes
        ]
    )

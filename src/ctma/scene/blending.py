"""Windows over a scene, and the weights that blend them without seams."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import pydantic
from numpy.typing import NDArray

from ctma.errors import SettingError
from ctma.settings import Settings, check_count
from ctma.types import Plane


class Tiling(Settings):
    """How windows lie over a scene.

    Attributes:
        size: Approximate side of a window, in pixels.
        margin: Pixels at a window's border that do not count, unless the scene ends there.
        ramp: Pixels over which one window fades into the next.
    """

    size: int = 640
    margin: int = 16
    ramp: int = 32

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("margin", "ramp"):
            check_count(name, getattr(self, name), least=0)
        if self.stride <= 0:
            raise SettingError(f"`tiling` of size {self.size}: too small for its margin and ramp")
        return self

    @property
    def stride(self) -> int:
        """Step from one window to the next."""
        return self.size - 2 * self.margin - self.ramp

    def shrink(self, ratio: float) -> Tiling:
        """A tiling whose windows have the sizes of this tiling after enlargement by ``ratio``."""
        margin, ramp = (int(pixels / ratio) for pixels in (self.margin, self.ramp))
        return Tiling(size=math.ceil(self.size / ratio), margin=margin, ramp=ramp)


@dataclass(frozen=True)
class Axis:
    """Windows along one direction.

    Attributes:
        origins: First pixel of each window.
        side: Pixels of each window; the scene's own size where the scene is smaller.
        weights: (windows, side); at every pixel of the scene, the weights sum to one.
    """

    origins: list[int]
    side: int
    weights: NDArray[np.float32]

    def finished(self, window: int) -> int:
        """The first pixel that windows after this one still reach."""
        following = window + 1
        if following == len(self.origins):
            return self.origins[window] + self.side
        first = int(np.flatnonzero(self.weights[following])[0])
        return self.origins[following] + first


def axis(length: int, tiling: Tiling, stride: int = 8) -> Axis:
    """Windows that cover ``length`` pixels.

    The number of windows is the rounded number of windows of the tiling's size with the least
    overlap. The side of the windows follows from this number. In a scene of one or two windows,
    the side is up to half as large again as the tiling's size.

    Args:
        length: Pixels of the scene in this direction.
        tiling: How windows lie.
        stride: Windows begin at multiples of ``stride``, but for the last: a network sees ground
            that is moved by less than its stride a little otherwise, which would show where
            windows meet. The side is a multiple of ``stride``, where the scene is that large.

    Returns:
        Windows with weights: zero in the margin, rising over the ramp, and divided by
        their sum, so that the product of two axes sums to one over the scene.
    """
    overlap = tiling.size - tiling.stride
    fewest = max(1, round((length - overlap) / tiling.stride))
    step = _round_up(max(1, -(-(length - overlap) // fewest)), stride)
    side = min(length, _round_up(step + overlap, stride))
    origins = [*range(0, length - side, step), length - side]
    weights = np.stack([_weights(origin, side, length, tiling) for origin in origins])
    total = np.zeros(length)
    for origin, weight in zip(origins, weights, strict=True):
        total[origin : origin + side] += weight
    for origin, weight in zip(origins, weights, strict=True):
        weight /= total[origin : origin + side]
    return Axis(origins, side, weights.astype(np.float32))


def add_window(
    total: Plane,
    valid: NDArray[np.bool_],
    window: Plane,
    corner: tuple[int, int],
    weights: tuple[Plane, Plane],
) -> None:
    """Adds a window, weighted, to the part of a scene that it reaches.

    Args:
        total: Sum of weighted probabilities so far, (H, W).
        valid: Where any window had data so far, (H, W).
        window: Probabilities (h, w), NaN where there is no data.
        corner: Row and column of ``total`` where the window begins; may be below 0.
        weights: The weights of the window's rows, and of its columns.
    """
    here, there = [], []
    for first, size, length in zip(corner, window.shape, total.shape, strict=True):
        start, end = max(first, 0), min(first + size, length)
        here.append(slice(start, end))
        there.append(slice(start - first, end - first))
    part = window[*there]
    good = ~np.isnan(part)
    valid[*here] |= good
    weighted = part * np.outer(weights[0][there[0]], weights[1][there[1]])
    if not good.all():
        weighted[~good] = 0
    total[*here] += weighted


def _round_up(side: int, step: int) -> int:
    return -(-side // step) * step


def _weights(origin: int, side: int, length: int, tiling: Tiling) -> NDArray[np.float64]:
    """Weights of one window before they are divided by their sum."""
    rising = (np.arange(side) - tiling.margin + 0.5) / max(tiling.ramp, 1)
    at_start = np.ones(side) if origin == 0 else rising.clip(0, 1)
    at_end = np.ones(side) if origin + side == length else rising[::-1].clip(0, 1)
    return np.minimum(at_start, at_end)

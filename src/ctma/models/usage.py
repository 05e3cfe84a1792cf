"""Usage settings of a network, which its checkpoint stores beside the weights."""

from __future__ import annotations

import math
from typing import Self

import pydantic

from ctma.errors import SettingError
from ctma.settings import Settings, check_distance, check_threshold
from ctma.types import IMAGE_BANDS, Ranges

NO_NUMBERS = "the network gives values that are no numbers: its weights are damaged, or diverged"
"""The error for outputs that are NaN or infinite."""


class Usage(Settings):
    """Usage settings of a network.

    Attributes:
        threshold: A pixel is change if its probability exceeds the threshold, in [0, 1].
        temperature: Divisor of the logits before the sigmoid, above 0.
        offset: Number added to the divided logits, finite.
        scaling: Stored pixel value that becomes 1.0 at the network's input, above 0.
        ranges: Stored values that become 0 and 1 at the network's input: for each band before,
            and for each band after. ``None`` for a network that takes 8-bit images.
        bands: Names of the input bands of one date, in order.
        ground_sample_distance: Metres a pixel of the training data, above 0; ``None`` if unknown.
        object_temperature: Divisor of the logit of an object's mean probability, above 0.
        object_offset: Added to this quotient, finite: the probability that the object is change.
        seen: What the training images look like, as ``ctma.inference.doubt`` writes it; empty if
            unknown.

    Raises:
        SettingError: If a value is out of its range.
    """

    threshold: float = 0.5
    temperature: float = 1.0
    offset: float = 0.0
    scaling: float = 255.0
    bands: tuple[str, ...] = IMAGE_BANDS
    ranges: tuple[Ranges, Ranges] | None = None
    ground_sample_distance: float | None = None
    object_temperature: float = 1.0
    object_offset: float = 0.0
    seen: str = ""

    @pydantic.field_validator("threshold")
    @classmethod
    def _check_threshold(cls, threshold: float) -> float:
        check_threshold(threshold)
        return threshold

    @pydantic.field_validator("ground_sample_distance")
    @classmethod
    def _check_distance(cls, distance: float | None) -> float | None:
        check_distance(distance)
        return distance

    @pydantic.field_validator("temperature", "object_temperature", "scaling")
    @classmethod
    def _check_positive(cls, value: float, info: pydantic.ValidationInfo) -> float:
        if not 0 < value < math.inf:
            raise SettingError(f"`{info.field_name}` {value}: above 0 and finite")
        return value

    @pydantic.field_validator("offset", "object_offset")
    @classmethod
    def _check_offset(cls, offset: float, info: pydantic.ValidationInfo) -> float:
        if not math.isfinite(offset):
            raise SettingError(f"`{info.field_name}` {offset}: must be finite")
        return offset

    @pydantic.model_validator(mode="after")
    def _check_ranges(self) -> Self:
        for ranges in self.ranges or ():
            if len(ranges) != len(self.bands):
                raise SettingError(f"`ranges` has {len(ranges)} bands, `bands` {len(self.bands)}")
            for low, high in ranges:
                if not -math.inf < low < high < math.inf:
                    raise SettingError(f"`ranges` {low},{high}: the first must be the smaller")
        return self

    def only(self) -> Usage:
        """A plain ``Usage`` with the same values, without fields of subclasses."""
        return Usage(**{name: getattr(self, name) for name in Usage.model_fields})

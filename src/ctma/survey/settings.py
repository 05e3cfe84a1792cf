"""The settings of a sample, checked at creation."""

from __future__ import annotations

import math
from typing import Self

import pydantic

from ctma.errors import SettingError, UnknownNameError
from ctma.settings import Settings, check_count

DESIGNS = ("stratified", "systematic")
ALLOCATIONS = ("neyman", "proportional", "equal")
UNITS = ("pixels", "polygons")

MOST_LEVELS = 20

LEAST_POINTS = 2
"""Smallest number of points of a stratum that gives a standard error."""


class SampleSettings(Settings):
    """How places are drawn from a map.

    Attributes:
        points: Number of places.
        standard_error: Wanted standard error of the changed area, as a share of that area. Then
            the number of places follows, and ``points`` is not used.
        design: ``"stratified"``: at random within strata of the map; or ``"systematic"``: on a
            regular grid.
        allocation: How places are shared among strata: ``"neyman"`` (most where the strata are
            large and mixed), ``"proportional"`` to the ground area, or ``"equal"``.
        least: Smallest number of places of a stratum.
        buffer: Metres around mapped changes that are a stratum of their own; by default ten pixels.
        levels: Probabilities that divide the strata further, such as ``(0.1, 0.8)``.
        expect_users: Conjectured user's accuracy: the share of mapped change that is change.
        expect_near: Conjectured share of change in the buffer.
        expect_missed: Conjectured share of change in the rest of the map.
        units: ``"pixels"``, or ``"polygons"``: the mapped changes themselves.
        seed: Number of the random draw; equal seeds give equal samples.

    Raises:
        SettingError: If a value is out of its range.
        UnknownNameError: If there is no such design, allocation or unit.
    """

    points: int = 300
    standard_error: float | None = None
    design: str = "stratified"
    allocation: str = "neyman"
    least: int = 50
    buffer: float | None = None
    levels: tuple[float, ...] = ()
    expect_users: float = 0.8
    expect_near: float = 0.05
    expect_missed: float = 0.01
    units: str = "pixels"
    seed: int = 0

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        check_count("points", self.points, least=LEAST_POINTS)
        check_count("least", self.least, least=LEAST_POINTS)
        check_count("seed", self.seed, least=0)
        for name, value, known in (
            ("design", self.design, DESIGNS),
            ("allocation", self.allocation, ALLOCATIONS),
            ("units", self.units, UNITS),
        ):
            if value not in known:
                raise UnknownNameError(name, value, known)
        if self.buffer is not None and not 0 <= self.buffer < math.inf:
            raise SettingError(f"`buffer` {self.buffer}: metres, finite and not below 0")
        if self.standard_error is not None and not 0 < self.standard_error < 1:
            raise SettingError(f"`standard_error` {self.standard_error}: a share between 0 and 1")
        for name in ("expect_users", "expect_near", "expect_missed"):
            if not 0 < getattr(self, name) < 1:
                raise SettingError(f"`{name}` {getattr(self, name)}: a share between 0 and 1")
        if len(self.levels) > MOST_LEVELS:
            raise SettingError(f"`levels`: {len(self.levels)} are more than {MOST_LEVELS}")
        if [*self.levels] != sorted({*self.levels}) or not all(0 < one < 1 for one in self.levels):
            raise SettingError(f"`levels` {self.levels}: rising probabilities between 0 and 1")
        return self

    @pydantic.model_validator(mode="after")
    def _check_design(self) -> Self:
        if self.design != "systematic":
            return self
        if self.standard_error is not None:
            raise SettingError(
                "`standard_error`: gives the number of places of a stratified sample; for a "
                "systematic one, give `points`"
            )
        if self.units == "polygons":
            raise SettingError("`design` systematic: is for pixels; polygons lie on no grid")
        return self

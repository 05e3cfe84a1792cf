"""The settings of labels and of learning, checked at creation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Self

import pydantic

from ctma.adaptation.learning import Learning
from ctma.errors import SettingError
from ctma.settings import Settings, check_count, check_distance
from ctma.types import MINIMUM_SIZE


class LabelSettings(Settings):
    """How a scene and its labels become a data set.

    Attributes:
        tile: Side of a tile, in pixels.
        holdout: Share of the labels to hold out for scores, in [0, 1].
        add: Whether to add the scene to a data set that exists.
        where: Chooses polygons by their attributes, in OGR's SQL, such as ``"class = 'new'"``.
        extent: A file of polygons of what was labelled; pixels outside have no label. By default
            the whole scene was labelled.
        all_touched: Whether each pixel counts that a polygon touches; by default a pixel counts
            whose centre lies inside.
        bands: The bands, such as ``"red,green,blue,nir"`` or ``"red=3,green=2,blue=1"``; by default
            all bands that are no alpha.
        nodata: The stored value that means no data, in bands without a nodata value of their own.

    Raises:
        SettingError: If a value is out of its range.
    """

    tile: int = 256
    holdout: float = 0.2
    add: bool = False
    where: str | None = None
    extent: Path | str | None = None
    all_touched: bool = False
    bands: str | None = None
    nodata: float | None = None

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        check_count("tile", self.tile, least=MINIMUM_SIZE)
        if not 0 <= self.holdout <= 1:
            raise SettingError(f"`holdout` {self.holdout}: a share from 0 to 1")
        return self


class AdaptationSettings(Settings):
    """How a checkpoint is adapted.

    Attributes:
        minutes: Time for the whole, above 0.
        most_loss: Largest loss of F1 elsewhere, in percent.
        calibrate_only: Adapt temperature, offset and threshold, and no weight.
        ground_sample_distance: Metres per pixel of the tiles; by default that of georeferenced
            tiles.
        learning: How the last layers learn.

    Raises:
        SettingError: If a value is out of its range.
    """

    minutes: float = 10.0
    most_loss: float = 0.5
    calibrate_only: bool = False
    ground_sample_distance: float | None = None
    learning: Learning = Learning()

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if not 0 < self.minutes < math.inf:
            raise SettingError(f"`minutes` {self.minutes}: above 0 and finite")
        check_distance(self.ground_sample_distance)
        if not 0 <= self.most_loss < math.inf:
            raise SettingError(f"`most_loss` {self.most_loss}: finite, and not below 0")
        return self

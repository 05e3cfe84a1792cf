"""The settings of a scene's prediction, checked at creation."""

from __future__ import annotations

import math
from typing import Self

import pydantic

from ctma.errors import SettingError, UnknownNameError
from ctma.models.usage import Usage
from ctma.scene.blending import Tiling
from ctma.scene.grid import GRIDS
from ctma.settings import Settings, check_distance, check_threshold

POLYGON_DRIVERS = {
    "gpkg": "GPKG",
    "geojson": "GeoJSON",
    "fgb": "FlatGeobuf",
    "parquet": "Parquet",
}
"""Polygon formats; each is also its file's suffix."""


class PolygonSettings(Settings):
    """How polygons are written.

    Attributes:
        min_area: Smallest area of a polygon, in square metres.
        simplify: Tolerance for simplifying polygons, in pixels.
        form: One of ``POLYGON_DRIVERS``.
        certainty: Divisor of the logit of a polygon's mean probability, and what is added to the
            quotient, so that of polygons said 0.8, 80 % are change.
    """

    min_area: float = 0.0
    simplify: float = 0.0
    form: str = "gpkg"
    certainty: tuple[float, float] = (1.0, 0.0)


class SceneSettings(Settings):
    """How two rasters become a change map; the predictor chooses the engine.

    Attributes:
        bands: Band numbers from 1, for both dates, or one list for each. By default the bands
            tagged red, green and blue, else the first bands.
        nodata: The stored value that means no data, in bands without a nodata value of their own.
        nodata_any: Whether also in 8-bit colours one band with its nodata value makes a hole. By
            default a pixel of 8-bit colours is a hole where all bands have the value.
        scale: Stored values that become 0 and 1; estimated for each date by default.
        grid: The date whose pixels the map keeps: ``before``, ``after``, or ``finest``, the date
            with the smaller pixels on the ground.
        threshold: Probability above which a pixel counts as change; the checkpoint's by default.
        min_area: Smallest area of a polygon, in square metres; smaller changes get no polygon.
        simplify: Tolerance for simplifying polygons, in pixels.
        polygon_format: ``gpkg``, ``geojson``, ``fgb`` or ``parquet``.
        tiling: How windows lie, in pixels that the network sees.
        coregister: Whether to correct the shift between the dates.
        ground_sample_distance: Metres per pixel; by default the distance of the grid. ctma
            enlarges or reduces the scene to the distance that the network was trained at.
        picture: Whether to draw ``overview.png``.
        top: Number of the largest changes to draw in ``largest.png``; 0 for no such picture.
        doubt: Whether to write ``doubt.tif``: where not to believe the map.

    Raises:
        SettingError: If a value is out of its range.
        UnknownNameError: If there is no such grid or format.
    """

    bands: tuple[int, ...] | tuple[tuple[int, ...], tuple[int, ...]] | None = None
    nodata: float | None = None
    nodata_any: bool = False
    scale: tuple[float, float] | None = None
    grid: str = "before"
    threshold: float | None = None
    min_area: float = 0.0
    simplify: float = 0.0
    polygon_format: str = "gpkg"
    tiling: Tiling | None = None
    coregister: bool = False
    ground_sample_distance: float | None = None
    picture: bool = True
    top: int = pydantic.Field(default=0, ge=0, le=100)
    doubt: bool = False

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        for kind, name, choices in (
            ("polygon format", self.polygon_format, POLYGON_DRIVERS),
            ("grid", self.grid, GRIDS),
        ):
            if name not in choices:
                raise UnknownNameError(kind, name, choices)
        for numbers in self.bands_by_date:
            if numbers is not None and min(numbers, default=0) < 1:
                raise SettingError(f"`bands` {self.bands}: band numbers are counted from 1")
        if self.scale is not None and not -math.inf < self.scale[0] < self.scale[1] < math.inf:
            raise SettingError(
                f"`scale` {self.scale[0]},{self.scale[1]}: the first must be below the second, "
                "both finite"
            )
        check_threshold(self.threshold)
        for name in ("min_area", "simplify"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SettingError(f"`{name}` {getattr(self, name)}: finite, and not below 0")
        check_distance(self.ground_sample_distance)
        return self

    @property
    def bands_by_date(self) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
        """Band numbers before and after, ``None`` where ctma finds them in the raster."""
        match self.bands:
            case (tuple() as before, tuple() as after):
                return before, after
            case _:
                return self.bands, self.bands

    def tiling_at(self, enlargement: float) -> Tiling:
        """The tiling in pixels of the scene, for windows that the network sees enlarged."""
        return (self.tiling or Tiling()).shrink(enlargement)

    def polygons_of(self, usage: Usage) -> PolygonSettings:
        """How polygons are written, for a network."""
        return PolygonSettings(
            min_area=self.min_area,
            simplify=self.simplify,
            form=self.polygon_format,
            certainty=(usage.object_temperature, usage.object_offset),
        )

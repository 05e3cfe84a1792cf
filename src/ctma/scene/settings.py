"""How a scene is predicted: one value, checked where it is made."""

from __future__ import annotations

import math
from typing import Self

import pydantic

from ctma.errors import SettingError, UnknownNameError
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
        min_area: Square metres below which a change is no polygon.
        simplify: Pixels by which polygons may be simplified.
        form: One of ``POLYGON_DRIVERS``.
    """

    min_area: float = 0.0
    simplify: float = 0.0
    form: str = "gpkg"


class SceneSettings(Settings):
    """How two rasters become a change map; on which engine says the predictor.

    Attributes:
        bands: Band numbers from 1, for both dates, or one list for each; by default those that
            are tagged red, green and blue, else the first ones.
        nodata: The stored value that means none, in bands that do not say theirs.
        scale: Stored values that become 0 and 1; found for each date by default.
        grid: Whose pixels are kept: ``before``, ``after`` or ``finest``.
        threshold: Change is where the probability exceeds it; the checkpoint's by default.
        min_area: Square metres below which a change is no polygon.
        simplify: Pixels by which polygons may be simplified.
        polygon_format: ``gpkg``, ``geojson``, ``fgb`` or ``parquet``.
        tiling: How windows lie, in pixels that the network sees.
        coregister: Take out the shift between the dates.
        ground_sample_distance: Metres a pixel, by default as the grid has it. The network
            sees the scene enlarged or reduced to the distance it was trained at.
        picture: Whether ``overview.png`` is drawn.

    Raises:
        SettingError: If a value is out of its range.
        UnknownNameError: If there is no such grid or format.
    """

    bands: tuple[int, ...] | tuple[tuple[int, ...], tuple[int, ...]] | None = None
    nodata: float | None = None
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

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        for kind, name, known in (
            ("polygon format", self.polygon_format, POLYGON_DRIVERS),
            ("grid", self.grid, GRIDS),
        ):
            if name not in known:
                raise UnknownNameError(kind, name, known)
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
        """Band numbers before and after, ``None`` where they are to be found."""
        match self.bands:
            case (tuple() as before, tuple() as after):
                return before, after
            case _:
                return self.bands, self.bands

    def tiling_at(self, enlargement: float) -> Tiling:
        """How windows lie over pixels that the network sees enlarged."""
        return (self.tiling or Tiling()).shrink(enlargement)

    @property
    def polygons(self) -> PolygonSettings:
        """How polygons are written."""
        return PolygonSettings(
            min_area=self.min_area, simplify=self.simplify, form=self.polygon_format
        )

"""How a scene is predicted: one value, checked where it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ctma.devices import read_precision
from ctma.errors import SettingError, UnknownNameError
from ctma.inference.engines.choice import check_engine
from ctma.scene.blending import Tiling
from ctma.scene.grid import GRIDS
from ctma.settings import check_distance, check_threshold, settle

POLYGON_DRIVERS = {
    "gpkg": "GPKG",
    "geojson": "GeoJSON",
    "fgb": "FlatGeobuf",
    "parquet": "Parquet",
}
"""Polygon formats; each is also its file's suffix."""


@dataclass(frozen=True)
class PolygonSettings:
    """How polygons are written.

    Attributes:
        min_area: Square metres below which a change is no polygon.
        simplify: Pixels by which polygons may be simplified.
        form: One of ``POLYGON_DRIVERS``.
    """

    min_area: float = 0.0
    simplify: float = 0.0
    form: str = "gpkg"


@dataclass(frozen=True)
class SceneSettings:
    """How two rasters become a change map.

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
        tta: Average over flipped views; takes four times as long.
        ground_sample_distance: Metres a pixel, by default as the grid has it. The network
            sees the scene enlarged or reduced to the distance it was trained at.
        precision: ``"float32"``, ``"bf16"``, or ``"auto"``, see :func:`ctma.prepare`.
        engine: What runs the network, see there.
        cache: Whether what was prepared is kept on disk for the next start.

    Raises:
        SettingError: If a value is out of its range.
        UnknownNameError: If there is no such grid, format, engine or precision.
    """

    bands: tuple[int, ...] | tuple[tuple[int, ...], tuple[int, ...]] | None = None
    scale: tuple[float, float] | None = None
    grid: str = "before"
    threshold: float | None = None
    min_area: float = 0.0
    simplify: float = 0.0
    polygon_format: str = "gpkg"
    tiling: Tiling | None = None
    coregister: bool = False
    tta: bool = False
    ground_sample_distance: float | None = None
    precision: str = "auto"
    nodata: float | None = None
    engine: str = "auto"
    cache: bool = True

    def __post_init__(self) -> None:
        settle(self)
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
        read_precision(self.precision)
        check_engine(self.engine)
        check_threshold(self.threshold)
        for name in ("min_area", "simplify"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SettingError(f"`{name}` {getattr(self, name)}: finite, and not below 0")
        check_distance(self.ground_sample_distance)

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
        return PolygonSettings(self.min_area, self.simplify, self.polygon_format)

"""Names of the files of a map; nothing here needs GDAL."""

from __future__ import annotations

from pathlib import Path

RASTERS = {"probability.tif": "average", "mask.tif": "nearest"}
"""Raster files, each with the resampling of its overviews; mode would remove rare change."""

SUMMARY = "summary.json"

PICTURE = "overview.png"
"""The picture of a result."""

LARGEST = "largest.png"
"""The picture of the largest changes."""

PROJECT = "map.qgz"
"""The QGIS project of a result."""

DOUBT = "doubt.tif"
"""Where not to believe a map."""

STYLES = ("probability.qml", "mask.qml")
"""Styles that QGIS takes where a raster is opened alone."""

PAGE = "review.html"
"""The review page of a map."""

ACCEPTED = ("accepted.gpkg", "accepted.tif")
"""What a review accepted."""


def is_map(folder: Path) -> bool:
    """Whether a folder holds files of a map, finished or not."""
    return any((folder / name).is_file() for name in (SUMMARY, *RASTERS))

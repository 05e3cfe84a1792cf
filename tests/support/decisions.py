"""Decisions on a map, as a review page gives them."""

import json

import geopandas
import rasterio
from pyproj import Transformer

import ctma
from support.maps import data_of


def fingerprint_of(folder):
    """What the page of the map says."""
    return data_of(ctma.write_review(folder).path)["fingerprint"]


def to_degrees(folder, column, row, side):
    """A square of pixels as a polygon in degrees."""
    with rasterio.open(folder / "mask.tif") as raster:
        west, north = raster.transform @ (column, row)
        east, south = raster.transform @ (column + side, row + side)
        mover = Transformer.from_crs(raster.crs, "EPSG:4326", always_xy=True)
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    return {"type": "Polygon", "coordinates": [[mover.transform(*corner) for corner in corners]]}


def decide(path, folder, decisions, *, geometry=to_degrees, reviewer="Ada", **about):
    """Writes a file of decisions: (id, verdict, (column, row, side), further properties)."""
    features = [
        {
            "type": "Feature",
            "geometry": geometry(folder, *square),
            "properties": {
                "id": number, "verdict": verdict, "reviewer": reviewer, "place": "", **more
            },
        }
        for number, verdict, square, more in decisions
    ]  # fmt: skip
    about = {"form": 1, "fingerprint": fingerprint_of(folder), "map": "M"} | about
    path.write_text(json.dumps({"type": "FeatureCollection", "ctma": about, "features": features}))
    return path


def square_of(folder, number):
    """Column, row and side of a painted square by the id of its change."""
    changes = geopandas.read_file(folder / "changes.gpkg", layer="changes")
    with rasterio.open(folder / "mask.tif") as raster:
        to_pixels = ~raster.transform
    west, south, east, north = changes[changes["id"] == number].total_bounds
    column, row = (round(value) for value in to_pixels @ (west, north))
    right, _ = to_pixels @ (east, south)
    return column, row, round(right) - column

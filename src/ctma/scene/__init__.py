"""Two rasters in, a georeferenced change map and polygons out."""

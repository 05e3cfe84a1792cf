"""Learning at a place: labels from polygons, held-out tiles, and weights adapted to both."""

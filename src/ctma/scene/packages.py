"""Loads packages that a run needs later, in a thread beside the plan."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

FIRST = ("scipy.ndimage", "scipy.fft")
"""Packages that a plan needs as soon as the dates are read."""

FOR_PICTURES = ("ctma.figures.scenes",)

FOR_POLYGONS = ("pyarrow", "geopandas")
"""What pyogrio loads. Not pyogrio itself: GDAL's messages go to the thread that loads pyogrio."""


def load_packages(runtime: Sequence[str], picture: bool) -> None:
    """Loads packages in the order in which a run needs them; this takes a second.

    Args:
        runtime: The packages that run the network.
        picture: Whether the run draws a picture.

    Raises:
        ImportError: If a package cannot be loaded; who needs the package then finds out again.
    """
    for name in (*FIRST, *runtime, *(FOR_PICTURES if picture else ()), *FOR_POLYGONS):
        import_module(name)

"""What ``summary.json`` says of a run: its inputs, its grid, and the versions of what ran."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import rasterio

from ctma._version import __version__
from ctma.engines.engine import find_version
from ctma.files import find_way
from ctma.scene.grid import Grid
from ctma.scene.plan import Date, Findings, Plan


def describe_plan(
    plan: Plan, findings: Findings, prints: list[Future[str | None]], output: Path
) -> dict[str, Any]:
    """The entries of the summary that are known before the first window.

    Args:
        plan: The plan.
        findings: What was found out for the plan.
        prints: The fingerprints of both rasters, before and after.
        output: The folder of the map.
    """
    overlap, shift = findings.overlap, findings.shift
    return {
        "before": _describe_date(plan.before, prints[0].result(), overlap.outside_before, output),
        "after": _describe_date(plan.after, prints[1].result(), overlap.outside_after, output),
        "grid": _describe_grid(plan.grid),
        "nodata": plan.nodata,
        "nodata_any": plan.nodata_any,
        "ground_sample_distance": findings.ground_sample_distance,
        "enlargement": plan.enlargement,
        "shift_pixels": shift
        and {"columns": round(shift.columns, 2), "rows": round(shift.rows, 2)},
        "seconds": {"plan": round(findings.seconds, 2)},
    }


def _describe_date(
    date: Date, fingerprint: str | None, outside: float, output: Path
) -> dict[str, Any]:
    return {
        "path": date.path,
        "way": find_way(date.path, output),
        "fingerprint": fingerprint,
        "bands": list(date.bands),
        "grid": _describe_grid(date.grid),
        "outside_share": round(outside, 6),
        "scaling": {"low": list(date.scaling.low), "high": list(date.scaling.high)},
    }


def _describe_grid(grid: Grid) -> dict[str, Any]:
    return {
        "crs": grid.crs.to_string(),
        "transform": list(grid.transform)[:6],
        "width": grid.width,
        "height": grid.height,
    }


def describe_versions() -> dict[str, str]:
    """The versions of what made the map, but for the engine."""
    return {
        "ctma": __version__,
        "torch": find_version("torch"),
        "rasterio": rasterio.__version__,
        "gdal": rasterio.__gdal_version__,
    }

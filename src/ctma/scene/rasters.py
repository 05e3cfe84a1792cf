"""Opens rasters with suitable GDAL settings; turns GDAL's errors into errors of ctma."""

from __future__ import annotations

import logging
import os
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import rasterio
from affine import AffineError
from rasterio import DatasetReader

# GDAL's own errors have no public name in rasterio, and some functions let them through.
from rasterio._err import CPLE_BaseError
from rasterio.errors import NodataShadowWarning, NotGeoreferencedWarning, RasterioError

from ctma.errors import CtmaError, OutputError, SceneError, first_line
from ctma.scene.servers import OF_SERVERS, is_remote, read_patiently

PROJ_VARIABLES = ("PROJ_DATA", "PROJ_LIB")
"""Environment variables that name the data of PROJ."""

CACHE_BYTES = 160 * 2**20
"""Size of GDAL's cache, in bytes, for the blocks that neighbouring windows share."""


@contextmanager
def raster_settings() -> Iterator[None]:
    """Settings of GDAL: a cache of bounded size, repeated requests to servers.

    GDAL reads in one thread: with more, it loses errors of servers, and gives zeros instead.
    """
    servers = {name: value for name, value in OF_SERVERS.items() if name not in os.environ}
    with (
        # ``Source`` takes account of nodata values and of alpha where a raster has both.
        warnings.catch_warnings(action="ignore", category=NodataShadowWarning),
        rasterio.Env(
            GDAL_CACHEMAX=CACHE_BYTES,
            GDAL_NUM_THREADS=1,
            VSI_CACHE=True,
            **servers,
        ),
    ):
        yield


def open_raster(path: str) -> DatasetReader:
    """Opens a raster: a file, a URL of a COG, or a ``/vsi…`` path.

    On disk, GDAL lists the folder to find files beside the raster (masks, statistics, world
    files). On a server, GDAL does not: it reads a COG by ranges, and a listing would only cost
    round trips.

    Raises:
        SceneError: If the raster cannot be opened.
    """
    what = f"{path}: cannot be opened as a raster"
    raster = read_patiently(lambda: _open(path, what), what, lambda: [path], lambda: None)
    if raster.count:
        return raster
    names = ", ".join(raster.subdatasets)
    raster.close()
    raise SceneError(f"{path}: holds no bands itself; name one of its rasters: {names or 'none'}")


def _open(path: str, what: str) -> DatasetReader:
    listing = "EMPTY_DIR" if is_remote(path) else "FALSE"
    # ctma reports a missing CRS in its own error.
    with (
        raster_errors(what),
        warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
        rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN=listing),
    ):
        return rasterio.open(_with_lower_scheme(path))


def _with_lower_scheme(path: str) -> str:
    """A URL whose scheme is in lower case, as rasterio knows it; other paths unchanged."""
    return re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://", lambda scheme: scheme[0].lower(), path)


def files_beside(path: str) -> list[str]:
    """The further files of a raster: masks, statistics, the sources of a VRT.

    Args:
        path: A raster. In an archive, the archive counts as a further file. On a server, there
            are no further files.
    """
    if is_remote(path):
        return []
    members: dict[str, None] = {}
    coming = [path]
    while coming:
        with open_raster(coming.pop()) as raster:
            files = [str(Path(file)) for file in raster.files if Path(file).is_file()]
        new = [file for file in files if file not in members]
        members.update(dict.fromkeys(new))
        coming += [file for file in new if file != path and file.lower().endswith(".vrt")]
    archive = next((str(part) for part in _inside(path) if part.is_file()), None)
    beside = {file for file in members if Path(file).resolve() != Path(path).resolve()}
    return sorted(beside | ({archive} if archive else set()))


def _inside(path: str) -> Sequence[Path]:
    """Folders and archives on a path into an archive, the innermost first."""
    _, prefix, rest = path.rpartition("/vsi")
    return Path(rest.partition("/")[2]).parents if prefix else ()


@contextmanager
def raster_errors(what: str) -> Iterator[None]:
    """Turns errors of GDAL and rasterio into one line that begins with ``what``.

    Raises:
        SceneError: Instead of the errors of GDAL and rasterio.
    """
    try:
        yield
    except CtmaError:
        raise
    except (
        RasterioError, CPLE_BaseError, AffineError, OSError, ValueError, OverflowError, MemoryError
    ) as error:  # fmt: skip
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        reason = first_line(cause)
        raise SceneError(f"{what} ({reason}){_blame_variables(reason)}") from error


def _blame_variables(reason: str) -> str:
    """Names the variable that leads PROJ to the data of another installation, if one does."""
    named = [f"{name}={os.environ[name]}" for name in PROJ_VARIABLES if name in os.environ]
    if "PROJ:" not in reason or not named:
        return ""
    return f"; unset {' and '.join(named)}, which may be of another installation"


@contextmanager
def logging_errors() -> Iterator[None]:
    """Makes rasterio log errors of GDAL that it does not raise."""
    logger = logging.getLogger("rasterio")
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def heeding_errors(path: Path) -> Iterator[None]:
    """Raises for errors of GDAL that rasterio only logs, such as those of closing a file.

    Args:
        path: The file that this thread writes.

    Raises:
        OutputError: If GDAL reported an error while the block ran.
    """
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == threading.get_ident() and "signalled an error" in record.msg:
                said.append(record.getMessage())

    logger, listener = logging.getLogger("rasterio"), Listener(logging.INFO)
    logger.addHandler(listener)
    try:
        with logging_errors():
            yield
    finally:
        logger.removeHandler(listener)
    if said:
        raise OutputError(f"cannot write {path}: {said[-1].partition('msg=')[2].strip()}")

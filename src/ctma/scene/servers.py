"""Rasters on servers: how GDAL asks, and what a server says when a read has failed."""

from __future__ import annotations

import ctypes
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from rasterio import _env

from ctma.errors import SceneError

T = TypeVar("T")

OF_SERVERS = {
    "GDAL_HTTP_CONNECTTIMEOUT": "15",
    "GDAL_HTTP_LOW_SPEED_TIME": "15",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
}
"""Settings of GDAL that apply where the environment does not name others: seconds to connect, and
seconds below a speed (bytes per second) that end a request."""

PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each further try of a read that failed."""

PASSING = {408, 425, 429, 500, 502, 503, 504}
"""HTTP statuses that may be others a little later."""

WAIT = 15.0
"""Seconds to wait when the server is asked for the reason of a failure."""

MOST_ASKED = 3
"""Number of a mosaic's sources whose servers are asked for a reason."""

_OTHER_WAYS = {
    "GDAL_HTTP_USERPWD", "GDAL_HTTP_AUTH", "GDAL_HTTP_HEADERS", "GDAL_HTTP_HEADER_FILE",
    "GDAL_HTTP_PROXY", "GDAL_HTTPS_PROXY", "GDAL_HTTP_UNSAFESSL",
}  # fmt: skip

_REMOTE = re.compile(
    r"https?://|ftp://|s3://|gs://|az://|/vsi(curl|s3|gs|az|adls|oss|swift|\w*hdfs)", re.IGNORECASE
)
_URL = re.compile(r"https?://.*?\.(?:zip|tar|tgz|tar\.gz)(?=/)|https?://.*", re.IGNORECASE)


def is_remote(path: str) -> bool:
    """Whether a raster lies on a server, also inside an archive there."""
    return _REMOTE.search(path) is not None


class Reason(NamedTuple):
    """Why a server does not give a file.

    Attributes:
        text: The address and what the server answers.
        final: Whether another try would be in vain.
    """

    text: str
    final: bool


def read_patiently(
    act: Callable[[], T],
    what: str,
    addresses: Callable[[], Sequence[str]],
    recover: Callable[[], object],
) -> T:
    """Reads from a server, again and again where the server fails for a while.

    Args:
        act: Reads.
        what: What fails, for the error.
        addresses: The files that ``act`` reads; without one on a server there is no second try.
        recover: Called before each further try.

    Returns:
        What ``act`` returns.

    Raises:
        SceneError: If the last try fails, or the server's answer is final.
    """
    for pause in (*PAUSES, None):
        try:
            return act()
        except SceneError as error:
            asked = [path for path in addresses() if is_remote(path)]
            if not asked:
                raise
            _forget_answers()
            reason = next(filter(None, map(find_reason, asked[:MOST_ASKED])), None)
            if reason is None and pause is None:
                raise
            # Another source of a mosaic may have failed, and may be there a little later.
            if reason is not None and (pause is None or (reason.final and len(asked) == 1)):
                raise SceneError(f"{what} ({reason.text})") from error
        time.sleep(pause or 0)
        recover()
    raise AssertionError("the last try returns or raises")


def _forget_answers() -> None:
    """Lets GDAL ask servers again: GDAL keeps failures, and parts of answers as if whole."""
    # rasterio has no name for this function of GDAL. Where the system's linker does not find it
    # behind rasterio (on Windows), a file that failed once fails until the process ends.
    clear = getattr(ctypes.CDLL(_env.__file__), "VSICurlClearCache", None)
    if clear is not None:
        clear()


def find_reason(path: str) -> Reason | None:
    """Asks a server with one short request why it does not give a file.

    Args:
        path: The address of the file. The reason can be found for ``http`` and ``https``.

    Returns:
        The reason; ``None`` if the server gives the file, or cannot be asked.
    """
    found = _URL.search(path)
    # With credentials or a proxy, GDAL would ask in another way.
    if found is None or "@" in path or "header." in path or _OTHER_WAYS & os.environ.keys():
        return None
    url = found[0]
    # The pattern admits http and https alone.
    request = urllib.request.Request(url, headers={"Range": "bytes=0-0"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=WAIT) as answer:  # noqa: S310
            answer.read(1)
            if answer.status == http.HTTPStatus.PARTIAL_CONTENT:
                return None
            return Reason(f"{url}: HTTP {answer.status}, the server sends no ranges", True)
    except urllib.error.HTTPError as error:
        return Reason(f"{url}: the server answers HTTP {error.code}", error.code not in PASSING)
    except (http.client.HTTPException, ValueError):
        return None
    except OSError as error:
        late = isinstance(error, TimeoutError) or isinstance(
            getattr(error, "reason", None), TimeoutError
        )
        return Reason(f"{url}: the server does not answer", late)

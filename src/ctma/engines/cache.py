"""Graphs made once, and what was compiled of them, kept on disk for the next start.

The folder is the user's cache for ``ctma``, or what the environment variable ``CTMA_CACHE`` says.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import platformdirs

from ctma.errors import OutputError
from ctma.files import whole_file

MOST_BYTES = 2 * 1024**3
"""Of all that is kept; what was not used for the longest time goes first."""

_SUFFIX = ".graph"
_DIGEST = hashlib.sha256().digest_size


def folder() -> Path:
    """Where graphs are kept."""
    given = os.environ.get("CTMA_CACHE")
    return (Path(given) if given else platformdirs.user_cache_path("ctma")) / "engines"


def holds(key: str) -> bool:
    """Whether something is kept under a key, be it damaged."""
    return _path(key).is_file()


def read(key: str) -> bytes | None:
    """What was kept under a key; nothing where it is not there, or not as it was written."""
    path = _path(key)
    try:
        content = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    digest, graph = content[:_DIGEST], content[_DIGEST:]
    return graph if hashlib.sha256(graph).digest() == digest else None


def write(key: str, graph: bytes) -> None:
    """Keeps a graph under a key; where nothing can be written, nothing is kept."""
    try:
        with whole_file(_path(key)) as part:
            part.write_bytes(hashlib.sha256(graph).digest() + graph)
        _make_room()
    except (OSError, OutputError):
        return


def _path(key: str) -> Path:
    return folder() / f"{key}{_SUFFIX}"


def _make_room() -> None:
    files = (path for path in folder().glob(f"*{_SUFFIX}") if path.is_file())
    kept = sorted(files, key=lambda path: path.stat().st_mtime)
    total = sum(path.stat().st_size for path in kept)
    for path in kept[:-1]:
        if total <= MOST_BYTES:
            return
        total -= path.stat().st_size
        path.unlink(missing_ok=True)

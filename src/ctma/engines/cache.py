"""A disk cache of graphs and compiled graphs, for the next start.

The environment variable ``CTMA_CACHE`` sets the folder; the default is the user's cache folder for
``ctma``. The cache is the subfolder ``engines``.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import platformdirs

from ctma.errors import OutputError
from ctma.files import whole_file

MOST_BYTES = 2 * 1024**3
"""Largest size of the cache; the least recently used entries go first."""

_SUFFIX = ".graph"
_DIGEST = hashlib.sha256().digest_size


def folder() -> Path:
    """The folder of the cache."""
    override = os.environ.get("CTMA_CACHE")
    return (Path(override) if override else platformdirs.user_cache_path("ctma")) / "engines"


def holds(key: str) -> bool:
    """Whether the cache has an entry for a key; the entry may be damaged."""
    return _path(key).is_file()


def read(key: str) -> bytes | None:
    """The entry of a key; ``None`` if the cache has no entry, or a damaged one."""
    path = _path(key)
    try:
        content = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    digest, graph = content[:_DIGEST], content[_DIGEST:]
    return graph if hashlib.sha256(graph).digest() == digest else None


def write(key: str, graph: bytes) -> None:
    """Stores a graph under a key; ignores errors of writing."""
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
    graph_files = sorted(files, key=lambda path: path.stat().st_mtime)
    total = sum(path.stat().st_size for path in graph_files)
    for path in graph_files[:-1]:
        if total <= MOST_BYTES:
            return
        total -= path.stat().st_size
        path.unlink(missing_ok=True)

"""Writes files completely or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ctma.errors import OutputError

SPREAD_PIECES = 64
"""Number of pieces of 1 MiB that the fingerprint of a large raster covers."""

LOCK = ".ctma-lock"


@contextmanager
def write_errors(path: str | Path) -> Iterator[None]:
    """Turns errors of the system into one line that says what cannot be written.

    Raises:
        OutputError: Instead of ``OSError``.
    """
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside ``path``; renames the file once the block succeeds.

    Args:
        path: The path of the finished file; missing folders are created.

    Yields:
        The temporary path, with the same suffix. If the block fails, the file is removed.

    Raises:
        OutputError: If the folder or the file cannot be written.
    """
    path = Path(path)
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".part-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        part = Path(name)
        try:
            yield part
            part.chmod(0o666 & ~_UMASK)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Finds out early whether a file can be written.

    Raises:
        OutputError: If the file cannot be written.
    """
    path = Path(path)
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Refuses to replace an existing file without ``overwrite``.

    Raises:
        OutputError: If the file exists and ``overwrite`` is not set, or if the path is a folder.
    """
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: is there already; name another file, or add `overwrite`")


def refuse_inputs(inputs: Iterable[str | Path], outputs: Iterable[Path]) -> None:
    """Checks before any work that no output would replace an input.

    Args:
        inputs: The paths to read; paths that are no files on disk are ignored.
        outputs: The paths to write.

    Raises:
        OutputError: If an output is an input, also under another path or through a link.
    """
    read = [Path(path) for path in inputs if Path(path).is_file()]
    places = {path.resolve() for path in read} | {_node(path) for path in read}
    for output in outputs:
        if output.exists() and (output.resolve() in places or _node(output) in places):
            raise OutputError(f"{output}: is an input and would be replaced; name another folder")


def check_folder(output: Path, inputs: Iterable[str | Path] = ()) -> None:
    """Checks before any work that a folder can be written, and would not become an input.

    Args:
        output: The folder to write.
        inputs: What is read; only folders count.

    Raises:
        OutputError: If the path is a file, or lies within a folder that is read.
    """
    if output.is_file():
        raise OutputError(f"{output}: is a file; name a folder")
    place = output.resolve()
    for folder in map(Path, inputs):
        if folder.is_dir() and place.is_relative_to(folder.resolve()):
            raise OutputError(f"{output}: lies within {folder}, which is read; name another folder")


def find_way(path: str | Path, folder: Path) -> str | None:
    """The way from a folder to a file, with ``/``; ``None`` where there is no file or no way."""
    if not Path(path).exists():
        return None
    try:
        return Path(os.path.relpath(path, folder.resolve())).as_posix()
    except ValueError:  # another drive
        return None


def _node(path: Path) -> tuple[int, int]:
    """The device and inode of a file, which are equal for all links to the file."""
    state = path.stat()
    return state.st_dev, state.st_ino


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Gives a temporary folder; renames the folder to ``path`` once the block succeeds.

    Raises:
        OutputError: If ``path`` exists already, or cannot be written.
    """
    path = Path(path)
    if path.exists():
        raise OutputError(f"{path}: exists already; name a new folder")
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=path.parent))
        try:
            yield part
            part.chmod(0o777 & ~_UMASK)
            part.rename(path)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def write_json(path: str | Path, content: Any) -> None:
    """Writes ``content`` as indented JSON, whole or not at all."""
    with whole_file(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n")


def file_fingerprint(path: str | Path) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a file's content."""
    return sha256(path)[:16]


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def spread_fingerprint(path: str | Path) -> str:
    """A fingerprint of a large file, from its size and from pieces spread over the file.

    Files of at most ``SPREAD_PIECES`` MiB have the same fingerprint as ``file_fingerprint``.
    """
    piece = 2**20
    size = os.path.getsize(path)
    if size <= SPREAD_PIECES * piece:
        return file_fingerprint(path)
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        for number in range(SPREAD_PIECES):
            file.seek(number * (size - piece) // (SPREAD_PIECES - 1))
            digest.update(file.read(piece))
    return digest.hexdigest()[:16]


def fingerprint(parts: Iterable[str]) -> str:
    """First 16 hexadecimal digits of the SHA-256 of some texts, in order."""
    digest = hashlib.sha256()
    for part in parts:
        # File names may contain any bytes.
        digest.update(part.encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()[:16]


def _umask() -> int:
    """The process's umask. To read it means to set it, so call this before threads start."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _umask()


@contextmanager
def sole_run(output: Path) -> Iterator[None]:
    """Locks an output folder for one run; the lock of a killed run does not block others.

    Raises:
        OutputError: If another run is writing to the folder.
    """
    lock = FileLock(output / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise OutputError(
            f"{output}: another run is writing there; wait for it, or name another folder"
        ) from error
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror or error}") from error
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()

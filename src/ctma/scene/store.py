"""Keeps the finished work of a run, so that an interrupted run can be resumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctma.errors import OutputError, SettingError
from ctma.files import whole_file, write_json
from ctma.scene.identity import find_differences
from ctma.scene.plan import WindowIndex

FOLDER = ".ctma-unfinished"
_MARK, _SOURCES, _SETTINGS = "identity", "sources.json", "settings.json"


class Store:
    """Finished windows and strips, each in one file that is complete or missing.

    Args:
        output: The output folder; the store is a hidden folder in it until the run ends.
        identity: The run's fingerprint; only a run of the same fingerprint may be resumed.
        settings: The run's settings and engine by name, for error messages.
        sources: Paths of the rasters before and after.
        resume: Whether to keep an interrupted run's work; otherwise the store removes the work.

    Raises:
        SettingError: If ``resume`` is set and the folder holds the work of another run.
        OutputError: If the folder cannot be written.
    """

    def __init__(
        self,
        output: Path,
        identity: str,
        settings: Mapping[str, str],
        sources: tuple[str, str],
        resume: bool,
    ) -> None:
        self.folder = output / FOLDER
        mark = self.folder / _MARK
        stored_identity = mark.read_text() if mark.is_file() else None
        if resume and stored_identity is not None and stored_identity != identity:
            raise SettingError(
                f"{output}: holds the unfinished run of other inputs or settings"
                f"{find_differences(_read_json(self.folder / _SETTINGS, dict) or {}, settings)}; "
                "repeat those, or start anew without `resume`"
            )
        try:
            if stored_identity != identity or not resume:
                discard(output)
            self.folder.mkdir(parents=True, exist_ok=True)
            for part in self.folder.glob(".part-*"):
                part.unlink()
        except OSError as error:
            raise OutputError(f"cannot write {output}: {error.strerror}") from error
        write_json(self.folder / _SOURCES, sources)
        write_json(self.folder / _SETTINGS, settings)
        with whole_file(mark) as part:
            part.write_text(identity)

    @property
    def empty(self) -> bool:
        """Whether nothing worth resuming is there."""
        return not any(self.folder.glob("*.npy"))

    def scratch(self, name: str) -> Path:
        """A path for a file that is written anew by every run."""
        path = self.folder / name
        # SQLite would undo the statements of a killed run, in the new file.
        for suffix in ("", "-journal", "-wal", "-shm"):
            path.with_name(name + suffix).unlink(missing_ok=True)
        return path

    def window(self, index: WindowIndex) -> NDArray[np.float32] | None:
        """A finished window, or ``None``."""
        return _load(self._window(index))

    def has_window(self, index: WindowIndex) -> bool:
        """Whether a window is finished."""
        return self.window(index) is not None

    def keep_window(self, index: WindowIndex, window: NDArray[np.float32]) -> None:
        """Keeps a finished window."""
        _save(self._window(index), window)

    def forget_window(self, index: WindowIndex) -> None:
        """Drops a window that no strip needs any more."""
        self._window(index).unlink(missing_ok=True)

    def strip(self, row: int) -> NDArray[np.uint8] | None:
        """A finished strip, or ``None``."""
        return _load(self._strip(row))

    def has_strip(self, row: int) -> bool:
        """Whether a strip is finished."""
        return self.strip(row) is not None

    def keep_strip(self, row: int, strip: NDArray[np.uint8]) -> None:
        """Keeps a finished strip."""
        _save(self._strip(row), strip)

    def remove(self) -> None:
        """Removes the store's folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _window(self, index: WindowIndex) -> Path:
        return self.folder / f"window-{index[0]}-{index[1]}.npy"

    def _strip(self, row: int) -> Path:
        return self.folder / f"strip-{row}.npy"


def holds(output: Path, identity: str) -> bool:
    """Whether an output folder holds unfinished work of the run with this fingerprint."""
    mark = output / FOLDER / _MARK
    return mark.is_file() and mark.read_text() == identity


def unfinished_sources(output: Path) -> tuple[str, str] | None:
    """The pair of an interrupted run with finished work in an output folder, else ``None``."""
    folder = output / FOLDER
    if not any(folder.glob("*.npy")):
        return None
    sources = _read_json(folder / _SOURCES, list)
    return (sources[0], sources[1]) if sources and len(sources) == 2 else None


def discard(output: Path, identity: str | None = None) -> None:
    """Removes an interrupted run's work; with ``identity``, only the work of that run."""
    if identity is None or holds(output, identity):
        shutil.rmtree(output / FOLDER, ignore_errors=True)


def _read_json(path: Path, kind: type) -> Any:
    """The JSON content of a file; ``None`` where it is missing, damaged, or no ``kind``."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, kind) else None


def _load(path: Path) -> NDArray[Any] | None:
    """A finished array; ``None`` where the file is missing, or incomplete after a power cut."""
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError):
        return None


def _save(path: Path, content: NDArray[Any]) -> None:
    # Do not use numpy.save, which hides the reason of a disk error.
    with whole_file(path) as part, part.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, np.lib.format.header_data_from_array_1_0(content)
        )
        file.write(np.ascontiguousarray(content).data)

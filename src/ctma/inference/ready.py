"""Starts without torch, where the cache has what an earlier start with torch left."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pydantic

from ctma.checkpoints.header import find_checkpoint, read_header
from ctma.devices import find_processor
from ctma.engines import cache
from ctma.engines.graph import GraphEngine, digest_of
from ctma.engines.openvino import Known, OpenVino
from ctma.engines.ready import ReadyOpenVino
from ctma.engines.runtimes import count_cores
from ctma.engines.sessions import SessionEngine
from ctma.errors import CtmaError
from ctma.exports.exported import Exported, is_exported, read_exported
from ctma.files import file_fingerprint
from ctma.inference.look import Look, SessionLook
from ctma.inference.running import BasePredictor, Running
from ctma.models.usage import Usage

if TYPE_CHECKING:
    from ctma.inference.predictor import Model

VARIABLES = ("CTMA_ENGINE", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
"""Environment variables that a choice of engine, device or threads depends on."""

DRIVER = Path("/proc/driver/nvidia")
"""Is there where a GPU is."""


class Start(pydantic.BaseModel):
    """What a start without torch has to know of a network.

    Attributes:
        usage: How the network takes images.
        stride: Stride of the network's coarsest features, in pixels.
        minimum_size: The smallest height and width that the network takes.
        fingerprint: The fingerprint of the network.
        why: Reason for the choice of the engine.
        engine: What OpenVINO has to know; ``None`` for an exported model.
    """

    usage: Usage
    stride: int
    minimum_size: int
    fingerprint: str
    why: str
    engine: Known | None = None


class Ready(BasePredictor):
    """A predictor that loads no torch.

    Args:
        start: What an earlier start left, or what an exported model says.
        engine: The engine that computes.
        running: How the network runs.
        source: The file of the checkpoint or of the exported model.
    """

    def __init__(self, start: Start, engine: SessionEngine, running: Running, source: Path):
        self.running = running
        self.source = source
        self._start = start
        self._engine = engine

    @property
    def usage(self) -> Usage:
        """How to use the network."""
        return self._start.usage

    @property
    def stride(self) -> int:
        """Stride of the network's coarsest features, in pixels."""
        return self._start.stride

    @property
    def fingerprint(self) -> str:
        """The network's fingerprint."""
        return self._start.fingerprint

    @property
    def computing(self) -> SessionEngine:
        """The engine that computes."""
        return self._engine

    @property
    def why(self) -> str:
        """Why ctma chose this engine and precision."""
        return self._start.why

    @property
    def threads(self) -> int:
        """Number of threads that compute on the CPU."""
        return self._engine.threads()

    @contextmanager
    def look(self, enlargement: float = 1.0, streams: int | None = None) -> Iterator[Look]:
        """What predicts the probability of pairs of arrays; see ``BasePredictor``."""
        engine = self._engine.with_streams(streams)
        sizes = self.stride, self._start.minimum_size
        yield SessionLook(engine, self.usage, *sizes, enlargement, self.running.views, streams or 1)


def any_predictor(model: Model | BasePredictor) -> BasePredictor:
    """A predictor of a model of any kind; loads torch only where there is no predictor yet.

    Raises:
        SettingError: If the model is of no such kind.
        CheckpointError: If a checkpoint cannot be loaded.
    """
    if isinstance(model, BasePredictor):
        return model
    from ctma.inference.predictor import as_predictor

    return as_predictor(model)


def find_ready(checkpoint: str | Path, running: Running) -> Ready | None:
    """A predictor that loads no torch.

    Returns:
        ``None`` where torch has to be asked: for a checkpoint that the cache knows nothing of, and
        for an exported model with an engine, precision or device named.

    Raises:
        CheckpointError: If an exported model is missing, damaged or of another signature.
    """
    path = find_checkpoint(checkpoint)
    if is_exported(path):
        named = {running.engine, running.precision, running.device} != {"auto"}
        return None if named else _open_exported(path, running)
    key = _key(path, running)
    if key is None or (content := cache.read(key)) is None:
        return None
    try:
        start = Start.model_validate_json(content)
    except ValueError:
        return None
    known = start.engine
    if known is None or not all(cache.holds(one) for one in known.keys.values()):
        return None
    engine = ReadyOpenVino(known, partial(_find_engine, path, running))
    return Ready(start, engine, running, path)


def _open_exported(path: Path, running: Running) -> Ready:
    model = read_exported(path)
    start = Start(
        usage=model.usage,
        stride=model.description.stride,
        minimum_size=model.description.minimum_size,
        fingerprint=model.fingerprint,
        why=model.why,
    )
    return Ready(start, Exported(model), running, path)


def keep_ready(predictor: BasePredictor, running: Running) -> None:
    """Keeps what the next start needs in order to do without torch, where OpenVINO runs.

    Args:
        predictor: A predictor of a checkpoint, after its work.
        running: How the network was asked to run.
    """
    engine, source = predictor.computing, predictor.source
    if type(engine) is not OpenVino or source is None:
        return
    if not type(engine.network).__module__.startswith("ctma."):
        return  # the code of other packages may change without a word
    start = Start(
        usage=predictor.usage,
        stride=engine.stride,
        minimum_size=engine.network.minimum_size,
        fingerprint=predictor.fingerprint,
        why=predictor.why,
        engine=engine.known(),
    )
    if key := _key(source, running):
        cache.write(key, start.model_dump_json().encode())


def _key(path: Path, running: Running) -> str | None:
    """The cache key of a start: a hash of all that the choice of an engine may depend on."""
    try:
        if not running.cache or path.suffix != ".safetensors" or read_header(path).adapts:
            return None
    except CtmaError:
        return None
    return digest_of(
        [
            "start",
            file_fingerprint(path),
            json.dumps(dict(running), default=str),
            *(f"{name} {os.environ.get(name)}" for name in VARIABLES),
            f"{find_processor()} {count_cores()} {platform.python_version()} {DRIVER.exists()}",
            *_installed(),
            *_own_files(),
        ]
    )


def _installed() -> list[str]:
    """The names of all installed packages, with their versions."""
    folders = (Path(entry) for entry in sys.path if entry)
    return sorted({found.name for folder in folders for found in folder.glob("*.*-info")})


def _own_files() -> list[str]:
    """The state of the package's own files, which a developer may have changed."""
    root = Path(__file__).parents[1]
    states = ((path.relative_to(root), path.stat()) for path in sorted(root.rglob("*.py")))
    return [f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in states]


def _find_engine(path: Path, running: Running) -> GraphEngine:
    from ctma.inference.predictor import load

    engine = load(path, **dict(running)).computing
    assert isinstance(engine, GraphEngine)
    return engine

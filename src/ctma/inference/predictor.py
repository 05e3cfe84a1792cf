"""A network, how it runs, and what came of that: what everything above takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pydantic

from ctma.checkpoints.header import find_checkpoint
from ctma.checkpoints.store import load_telling
from ctma.devices import find_device
from ctma.engines.choice import NO_INT8, prepare
from ctma.engines.listing import check_engine
from ctma.engines.prepared import Prepared
from ctma.errors import SettingError
from ctma.exports.exported import is_exported
from ctma.exports.network import load_exported
from ctma.inference.views import look_as
from ctma.models.base import ChangeNetwork, Fingerprint, check_network, evaluating
from ctma.models.usage import Usage
from ctma.settings import Settings, check_precision


class Running(Settings):
    """How a network runs.

    Attributes:
        engine: What runs the network, see ``ctma.list_engines``; ``"auto"`` takes the fastest
            that is installed and can take the network, or what the environment variable
            ``CTMA_ENGINE`` says.
        precision: ``"float32"``, ``"bf16"``; ``"auto"`` takes bf16 where the checkpoint records
            that masks agree with those of float32 on 99.9 % of the pixels.
        device: ``"auto"`` (the GPU where there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
        tta: Average over four flipped views; takes four times as long.
        cache: Whether what an engine prepares is kept on disk for the next start.

    Raises:
        UnknownNameError: If there is no such engine or precision.
    """

    engine: str = "auto"
    precision: str = "auto"
    device: str = "auto"
    tta: bool = False
    cache: bool = True

    @pydantic.field_validator("engine")
    @classmethod
    def _known_engine(cls, engine: str) -> str:
        check_engine(engine)
        return engine

    @pydantic.field_validator("precision")
    @classmethod
    def _known_precision(cls, precision: str) -> str:
        check_precision(precision)
        return precision


class Predictor:
    """A network, how it runs, and what came of that.

    The engine is prepared once, when it is first needed. Make another predictor where weights
    were changed.

    Args:
        network: On the device that does the work.
        running: How; the defaults if not given. Its device is where the network is.
        source: The file that the network was loaded from, if it was.

    Attributes:
        network: The network itself.
        running: How it runs.
        source: The file that it was loaded from, ``None`` for a network in memory.

    Raises:
        SettingError: If the network is none of ctma.
    """

    def __init__(
        self,
        network: ChangeNetwork,
        running: Running | None = None,
        *,
        source: Path | None = None,
    ):
        check_network(network)
        running = running or Running()
        if isinstance(network, Prepared):
            _check_exported(network, running)
        self.network = network
        self.source = source
        self.running = running.replace(device=str(network.device))
        self._fingerprint = Fingerprint(network)

    def running_as(self, **changes: Any) -> Predictor:
        """Another predictor of the same network, some fields of ``running`` changed."""
        return Predictor(self.network, self.running.replace(**changes), source=self.source)

    @property
    def name(self) -> str:
        """What people know the model by: its file, else the network's name."""
        named = self.network.name or type(self.network).__name__
        return named if self.source is None else self.source.name

    @property
    def usage(self) -> Usage:
        """How the network is to be used."""
        return self.network.usage

    @property
    def engine(self) -> str:
        """The name of the engine that runs the network."""
        return self.prepared.engine.name

    @property
    def precision(self) -> str:
        """The precision that the engine computes in."""
        return self.prepared.engine.precision

    @property
    def why(self) -> str:
        """Why this engine and precision; empty where both were asked for."""
        return self.prepared.why

    @property
    def fingerprint(self) -> str:
        """A hash of all that outputs depend on; taken once."""
        return self._fingerprint()

    @cached_property
    def prepared(self) -> Prepared:
        """The network behind its engine.

        Raises:
            SettingError: If the engine cannot take the network, or not in this precision.
            MissingExtraError: If the engine is not installed.
        """
        if isinstance(self.network, Prepared):
            return self.network
        running = self.running
        return prepare(
            self.network,
            running.engine,
            running.precision,
            cache=running.cache,
            fingerprint=self._fingerprint,
        )

    @contextmanager
    def looking(
        self, enlargement: float = 1.0, streams: int | None = None
    ) -> Iterator[ChangeNetwork]:
        """The network as it looks: behind engine and views, in evaluation mode for the while.

        Args:
            enlargement: Pixels that the network sees for each pixel, along a side.
            streams: How many threads will call it at once, each computing alone.
        """
        prepared = self.prepared.with_streams(streams)
        with evaluating(self.network), evaluating(prepared):
            yield look_as(prepared, enlargement=enlargement, tta=self.running.tta)

    def describe(self) -> dict[str, str]:
        """What computed, for records and summaries: engine, precision, and why."""
        return {"engine": self.engine, "precision": self.precision, "engine_why": self.why}

    def __str__(self) -> str:
        """Engine and precision for people, and why."""
        why = f": {self.why}" if self.why else ""
        return f"engine {self.engine}, {self.precision}{why}"


Model = Predictor | ChangeNetwork | str | Path
"""What functions take as a model: a predictor, a network in memory, or a checkpoint by name or
path."""


def load(
    checkpoint: str | Path,
    *,
    engine: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    tta: bool = False,
    cache: bool = True,
) -> Predictor:
    """Loads a checkpoint to predict with.

    Args:
        checkpoint: A checkpoint of ours, the name of a shipped one, the folder of a run, a
            ``.pth`` file of a released implementation, or an exported ``.onnx`` or ``.xml``.
        engine: What runs the network, see :class:`Running`, as all that follows.
        precision: In which precision.
        device: Where.
        tta: Average over flipped views.
        cache: Whether what an engine prepares is kept on disk.

    Raises:
        CheckpointError: If the file is no checkpoint, would run code, or its weights do not fit
            the network it names.
        UnknownNameError: If there is no such engine or precision.
        SettingError: If the device is not here, or the engine cannot take the network.
    """
    running = Running(engine=engine, precision=precision, device=device, tta=tta, cache=cache)
    where = find_device(device)
    path = find_checkpoint(checkpoint)
    if is_exported(path):
        return Predictor(load_exported(path), running, source=path)
    return Predictor(load_telling(path).to(where), running, source=path)


def as_predictor(model: Model) -> Predictor:
    """A model of any kind as a predictor; one that is a predictor already is given back.

    Raises:
        SettingError: If it is something else.
        CheckpointError: If a checkpoint cannot be loaded.
    """
    if isinstance(model, Predictor):
        return model
    return load(model) if isinstance(model, str | Path) else Predictor(model)


def _check_exported(network: Prepared, running: Running) -> None:
    """Refuses another engine or precision than the file of an exported model has."""
    engine = network.engine
    if running.engine in ("auto", engine.name) and running.precision in ("auto", engine.precision):
        return
    if running.precision == "int8":
        raise SettingError(NO_INT8)
    raise SettingError(
        f"the model was exported for {engine.name} in {engine.precision}, and does not run by "
        f"{running.engine} in {running.precision}; take the checkpoint that it came from"
    )

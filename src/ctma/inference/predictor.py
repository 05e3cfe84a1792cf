"""The predictor: a network with engine, precision and device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import torch

from ctma.checkpoints.header import find_checkpoint
from ctma.checkpoints.store import load_telling
from ctma.devices import find_device
from ctma.engines.choice import NO_INT8, prepare
from ctma.engines.engine import Engine
from ctma.engines.prepared import Prepared
from ctma.engines.sessions import SessionEngine
from ctma.errors import SettingError
from ctma.exports.exported import is_exported
from ctma.exports.network import load_exported
from ctma.inference.look import Look, SessionLook
from ctma.inference.running import BasePredictor, Running
from ctma.inference.views import NetworkLook, look_as
from ctma.models.base import ChangeNetwork, Fingerprint, check_network, evaluating
from ctma.models.usage import Usage


class Predictor(BasePredictor):
    """A network with the engine that runs the network.

    The predictor prepares the engine once, at its first use. After a change of the weights, make
    another predictor.

    Args:
        network: A network, on the device that computes.
        running: How the network runs; the defaults if not given. The network's own device
            replaces ``running.device``.
        source: The file that the network was loaded from, ``None`` for a network in memory.

    Attributes:
        network: The network itself.
        running: How the network runs.
        source: The file that the network was loaded from, ``None`` for a network in memory.

    Raises:
        SettingError: If the network is no ``ctma.ChangeNetwork``.
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
        _check_device(network, running.device)
        self.network = network
        self.source = source
        self.running = running.replace(device=str(network.device))
        self._fingerprint = Fingerprint(network)

    def running_as(
        self,
        *,
        engine: str | None = None,
        precision: str | None = None,
        tta: bool | None = None,
        cache: bool | None = None,
    ) -> Predictor:
        """Another predictor of the same network; what is not given stays as it is."""
        said = {"engine": engine, "precision": precision, "tta": tta, "cache": cache}
        changes = {name: value for name, value in said.items() if value is not None}
        other = Predictor(self.network, self.running.replace(**changes), source=self.source)
        other._fingerprint = self._fingerprint
        return other

    @property
    def name(self) -> str:
        """The model's name: the name of its file, else the network's name."""
        named = self.network.name or type(self.network).__name__
        return named if self.source is None else self.source.name

    @property
    def usage(self) -> Usage:
        """How to use the network: bands, scaling, ground sample distance, threshold."""
        return self.network.usage

    @property
    def stride(self) -> int:
        """Stride of the network's coarsest features, in pixels."""
        return self.network.stride

    @property
    def computing(self) -> Engine:
        """The engine that computes."""
        return self.prepared.engine

    @property
    def threads(self) -> int:
        """Number of threads that compute on the CPU: those of torch."""
        return torch.get_num_threads()

    @property
    def why(self) -> str:
        """Why ctma chose this engine and precision; empty where the caller chose both."""
        return self.prepared.why

    @property
    def fingerprint(self) -> str:
        """The network's fingerprint: a hash of everything its outputs depend on; computed once."""
        return self._fingerprint()

    @cached_property
    def prepared(self) -> Prepared:
        """The network as its engine runs it.

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
        """The network with engine and views, in evaluation mode inside the ``with`` block.

        Args:
            enlargement: Ratio by which the images are enlarged for the network, along a side.
            streams: Number of threads that call the network at once, each computing alone.
        """
        prepared = self.prepared.with_streams(streams)
        with evaluating(self.network), evaluating(prepared):
            yield look_as(prepared, enlargement=enlargement, views=self.running.views)

    @contextmanager
    def look(self, enlargement: float = 1.0, streams: int | None = None) -> Iterator[Look]:
        """What predicts the probability of pairs of arrays; see ``BasePredictor``."""
        threads = torch.get_num_threads()
        engine = self.computing.with_streams(streams)
        try:
            with self.looking(enlargement, streams) as network:
                if isinstance(engine, SessionEngine):
                    sizes = self.network.stride, self.network.minimum_size
                    views, callers = self.running.views, streams or 1
                    yield SessionLook(engine, self.usage, *sizes, enlargement, views, callers)
                else:
                    on_cpu = self.network.device.type == "cpu"
                    yield NetworkLook(network, streams or 1 if on_cpu else 1)
        finally:
            torch.set_num_threads(threads)


Model = Predictor | ChangeNetwork | str | Path
"""A model, as functions take it: a predictor, a network in memory, or a checkpoint by name or
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
    """Loads a checkpoint for prediction.

    Args:
        checkpoint: A checkpoint of ctma, the name of a shipped checkpoint, the folder of a run, a
            ``.pth`` file of a released implementation, or an exported ``.onnx`` or ``.xml`` file.
        engine: The engine that runs the network. For this and all further arguments see
            ``Running``.
        precision: The precision that the engine computes in.
        device: The device that computes.
        tta: Average over four views, flipped and resized.
        cache: Whether to keep the prepared engine on disk.

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
        if where.type != "cpu" and device != "auto":
            raise SettingError(f"`device` {device}: {path.name} is exported and runs on the CPU")
        network: ChangeNetwork = load_exported(path)
    else:
        network = load_telling(path).to(where)
    return Predictor(network, running.replace(device="auto"), source=path)


def as_predictor(model: Model) -> Predictor:
    """Makes a predictor of a model of any kind, with its network in memory.

    Raises:
        SettingError: If the model is of no such kind.
        CheckpointError: If a checkpoint cannot be loaded.
    """
    if isinstance(model, Predictor):
        return model
    return load(model) if isinstance(model, str | Path) else Predictor(model)


def _check_device(network: ChangeNetwork, device: str) -> None:
    """Refuses another device than the network is on."""
    if device != "auto" and not str(network.device).startswith(device):
        raise SettingError(
            f"`device` {device}: the network is on {network.device}; move the network there first"
        )


def _check_exported(network: Prepared, running: Running) -> None:
    """Refuses another engine or precision than the file of an exported model has."""
    engine = network.engine
    if running.engine in ("auto", engine.name) and running.precision in ("auto", engine.precision):
        return
    if running.precision == "int8":
        raise SettingError(NO_INT8)
    asked = [one for one in (running.engine, running.precision) if one != "auto"]
    raise SettingError(
        f"the model was exported for {engine.name} in {engine.precision}, and cannot run with "
        f"{' in '.join(asked)}; take the checkpoint that it came from"
    )

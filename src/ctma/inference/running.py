"""How a network runs, and what every predictor can do; loads no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path

import pydantic

from ctma.engines.engine import Engine
from ctma.engines.listing import check_engine
from ctma.inference.look import AS_IS, VIEWS, Look, Views
from ctma.models.usage import Usage
from ctma.settings import Settings, check_precision


class Running(Settings):
    """How a network runs.

    Attributes:
        engine: The engine that runs the network, see ``ctma.list_engines``. ``"auto"`` takes the
            engine that the environment variable ``CTMA_ENGINE`` names, else the fastest installed
            engine that can run the network.
        precision: ``"float32"``, ``"bf16"`` or ``"auto"``. ``"auto"`` takes bf16 where the
            checkpoint records that bf16 and float32 masks agree on 99.9 % of the pixels.
        device: ``"auto"`` (the GPU where there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
        tta: Average over four views, flipped and resized; takes four times as long.
        cache: Whether to keep the prepared engine on disk for the next start.

    Raises:
        UnknownNameError: If there is no such engine or precision.
    """

    engine: str = "auto"
    precision: str = "auto"
    device: str = "auto"
    tta: bool = False
    cache: bool = True

    @property
    def views(self) -> Views:
        """The views whose logits are averaged."""
        return VIEWS if self.tta else (AS_IS,)

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


class BasePredictor(ABC):
    """A network with the engine that runs the network, as images and scenes take it.

    Attributes:
        running: How the network runs.
        source: The file that the network was loaded from, ``None`` for a network in memory.
    """

    running: Running
    source: Path | None

    @property
    @abstractmethod
    def usage(self) -> Usage:
        """How to use the network: bands, scaling, ground sample distance, threshold."""

    @property
    @abstractmethod
    def stride(self) -> int:
        """Stride of the network's coarsest features, in pixels."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """The network's fingerprint: a hash of everything its outputs depend on; computed once."""

    @property
    @abstractmethod
    def computing(self) -> Engine:
        """The engine that computes."""

    @property
    @abstractmethod
    def why(self) -> str:
        """Why ctma chose this engine and precision; empty where the caller chose both."""

    @abstractmethod
    def look(
        self, enlargement: float = 1.0, streams: int | None = None
    ) -> AbstractContextManager[Look]:
        """What predicts the probability of pairs of arrays, inside the ``with`` block.

        Args:
            enlargement: Ratio by which the images are enlarged for the network, along a side.
            streams: Number of threads that look at once, each computing alone; ``None`` for one
                caller, for which all threads compute.
        """

    @property
    @abstractmethod
    def threads(self) -> int:
        """Number of threads that compute on the CPU."""

    @property
    def engine(self) -> str:
        """The name of the engine that runs the network."""
        return self.computing.name

    @property
    def precision(self) -> str:
        """The precision that the engine computes in."""
        return self.computing.precision

    def describe(self) -> dict[str, str]:
        """Engine, precision and the reason for them, for records and summaries."""
        return {"engine": self.engine, "precision": self.precision, "engine_why": self.why}

    def __str__(self) -> str:
        """Engine, precision and the reason for them, as text."""
        why = f": {self.why}" if self.why else ""
        return f"engine {self.engine}, {self.precision}{why}"

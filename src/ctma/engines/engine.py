"""What every engine is: something that runs a network and says of itself what it can do.

Modules of engines import torch and runtimes only where they run, so that help texts and errors
can ask all engines what they are without waiting.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from ctma.errors import EXTRAS, MissingExtraError, SettingError

if TYPE_CHECKING:
    from torch import Tensor

    from ctma.models.base import ChangeNetwork, Fingerprint


class Engine(ABC):
    """Runs a network; a subclass says what it is and implements ``run``.

    Args:
        network: In evaluation mode, on the device that does the work.
        precision: One of ``precisions``.
        cache: Whether what is prepared is kept on disk for the next start.
        fingerprint: Gives the fingerprint of the network's weights.

    Attributes:
        name: How users ask for the engine.
        summary: What the engine is, in a few words.
        precisions: Those that the engine computes in, the most exact first.
        packages: Names of the packages that must be installed.
        needs: What must be there beside packages, for people.
        devices: Kinds of devices that the engine runs on.
        rank: By precision, the engine's place among all that ``auto`` tries, the lowest first;
            ``auto`` never takes a precision without a rank.
        measured: Precisions whose agreement with float32 ``ctma calibrate`` measures.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    precisions: ClassVar[tuple[str, ...]] = ("float32",)
    packages: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[str] = ""
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda", "mps")
    rank: ClassVar[Mapping[str, int]] = {}
    measured: ClassVar[Sequence[str]] = ()

    def __init__(
        self,
        network: ChangeNetwork,
        precision: str,
        *,
        cache: bool = True,
        fingerprint: Fingerprint | None = None,
    ):
        self.network = network
        self.precision = precision
        self.cache = cache
        self.fingerprint = fingerprint or network.fingerprint

    @abstractmethod
    def run(self, before: Tensor, after: Tensor) -> Tensor:
        """Change logits of pairs.

        Args:
            before: (B, bands, H, W) in [0, 1], on the network's device.
            after: The same shape.

        Returns:
            (B, 1, H, W).
        """

    def computed(self) -> ChangeNetwork | None:
        """The network with the arithmetic that is done; ``None`` where it is not known."""
        return self.network

    def with_streams(self, streams: int | None) -> Engine:
        """The same engine for so many threads that call it at once, each computing alone."""
        return self

    def describe(self) -> dict[str, str]:
        """What computes, as far as bits depend on it: versions, kind of device, engine."""
        from ctma.devices import describe_computing, find_units

        return {
            **describe_computing(self.network.device, self.name),
            "precision": self.precision,
            # In less than float32 other units round otherwise.
            "units": "" if self.precision == "float32" else " ".join(find_units()),
            **self.versions(),
        }

    def versions(self) -> dict[str, str]:
        """Of the packages that the engine needs beside torch."""
        return {package: _find_version(package) for package in self.packages}

    @classmethod
    def missing(cls) -> list[str]:
        """Packages that the engine needs and that are not installed."""
        return [package for package in cls.packages if find_spec(package) is None]

    @classmethod
    def check_installed(cls) -> None:
        """Refuses an engine that is not installed.

        Raises:
            MissingExtraError: If a package is missing; it names the extra that brings the package.
        """
        for package in cls.missing():
            raise MissingExtraError(package, EXTRAS.get(package))

    @classmethod
    def check(cls, network: ChangeNetwork, precision: str) -> None:
        """Refuses what the engine cannot do.

        Args:
            network: On the device that is to do the work.
            precision: ``"auto"`` for any.

        Raises:
            SettingError: If the engine does not compute in the precision, or not on the device.
            MissingExtraError: If the engine is not installed.
        """
        if precision not in ("auto", *cls.precisions):
            known = " and ".join(cls.precisions)
            raise SettingError(f"engine {cls.name} computes in {known}, not in {precision}")
        if network.device.type not in cls.devices:
            where = "the CPU" if cls.devices == ("cpu",) else " and ".join(cls.devices)
            raise SettingError(f"engine {cls.name} runs on {where}, not on {network.device}")
        cls.check_installed()

    @classmethod
    def about(cls) -> dict[str, Any]:
        """What the engine is, as plain values by name."""
        return {
            "name": cls.name,
            "summary": cls.summary,
            "precisions": list(cls.precisions),
            "devices": list(cls.devices),
            "packages": list(cls.packages),
            "needs": cls.needs,
            "installed": not cls.missing(),
        }


def _find_version(package: str) -> str:
    """The version of a package, empty where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""

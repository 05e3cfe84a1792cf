"""The base class of engines, which run networks and describe their own abilities.

Modules of engines import torch and runtimes only inside functions. So help texts and errors can
list all engines without delay.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ctma.errors import EXTRAS, MissingExtraError, SettingError

if TYPE_CHECKING:
    from torch import Tensor

    from ctma.models.base import ChangeNetwork, Fingerprint


class Engine(ABC):
    """Runs a network; a subclass sets the class attributes and implements ``run``.

    Args:
        network: The network, in evaluation mode, on the device that computes.
        precision: One of ``precisions``.
        cache: Whether to keep the prepared graphs on disk for the next start.
        fingerprint: Returns the fingerprint of the network's weights.

    Attributes:
        name: The engine's name in commands and arguments.
        summary: Description of the engine in a few words.
        precisions: Precisions of the engine, the most exact first.
        packages: Names of the packages that the engine needs.
        extra: The extra of ctma that brings the packages, if one does.
        needs: Further requirements beside packages, as text for users.
        devices: Kinds of devices that the engine runs on.
        rank: Rank of each precision in the order of ``auto``, which tries the lowest rank first.
            ``auto`` never takes a precision without a rank.
        measured: Precisions whose agreement with float32 ``ctma calibrate`` measures.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    precisions: ClassVar[tuple[str, ...]] = ("float32",)
    packages: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
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
            Change logits, (B, 1, H, W).
        """

    def computed(self) -> ChangeNetwork | None:
        """The network whose operations the engine computes; ``None`` if unknown."""
        return self.network

    def with_streams(self, streams: int | None) -> Self:
        """The same engine for this many parallel callers, each of which computes alone."""
        return self

    def describe(self) -> dict[str, str]:
        """All facts that the bits of the outputs depend on: versions, kind of device, engine."""
        from ctma.devices import describe_computing, find_units

        return {
            **describe_computing(self.network.device, self.name),
            "precision": self.precision,
            # Below float32, rounding depends on the processor's units.
            "units": "" if self.precision == "float32" else " ".join(find_units()),
            **self.versions(),
        }

    def versions(self) -> dict[str, str]:
        """Versions of the packages that the engine needs beside torch."""
        return {package: find_version(package) for package in self.packages}

    @classmethod
    def missing(cls) -> list[str]:
        """Packages that the engine needs and that are not installed."""
        return [package for package in cls.packages if not _is_installed(package)]

    @classmethod
    def check_installed(cls) -> None:
        """Refuses an engine that is not installed.

        Raises:
            MissingExtraError: If a package is missing. The error names the extra to install.
        """
        for package in cls.missing():
            raise MissingExtraError(package, cls.extra or EXTRAS.get(package))

    @classmethod
    def check(cls, network: ChangeNetwork, precision: str) -> None:
        """Refuses a network or a precision that the engine cannot run.

        Args:
            network: The network, on the device that computes.
            precision: A precision, or ``"auto"`` for any.

        Raises:
            SettingError: If the engine does not compute in the precision, or not on the device.
            MissingExtraError: If the engine is not installed.
        """
        if precision not in ("auto", *cls.precisions):
            choices = " and ".join(cls.precisions)
            raise SettingError(f"engine {cls.name} computes in {choices}, not in {precision}")
        if network.device.type not in cls.devices:
            where = "the CPU" if cls.devices == ("cpu",) else " and ".join(cls.devices)
            raise SettingError(f"engine {cls.name} runs on {where}, not on {network.device}")
        cls.check_installed()

    @classmethod
    def about(cls) -> dict[str, Any]:
        """Description of the engine, as plain values by name."""
        return {
            "name": cls.name,
            "summary": cls.summary,
            "precisions": list(cls.precisions),
            "devices": list(cls.devices),
            "packages": list(cls.packages),
            "needs": cls.needs,
            "installed": not cls.missing(),
        }


def _is_installed(package: str) -> bool:
    """Whether Python finds a package; a part of a missing package is missing too."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def find_version(package: str) -> str:
    """The version of a package; empty if the package is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""

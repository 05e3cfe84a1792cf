"""What every engine is: a network that runs otherwise and says the same."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import ClassVar

from ctma.devices import describe_computing, find_units
from ctma.errors import SettingError
from ctma.inference.views import View
from ctma.models.base import ChangeNetwork


def version_of(package: str) -> dict[str, str]:
    """The version of a package that computes, empty where it is not installed."""
    try:
        return {package: version(package)}
    except PackageNotFoundError:
        return {package: ""}


def refuse_prepared(network: ChangeNetwork) -> None:
    """Refuses an engine where the network itself is wanted.

    Raises:
        SettingError: If it was prepared or exported.
    """
    if isinstance(network, Engine):
        raise SettingError("this was prepared or exported already; give the network itself")


class Engine(View):
    """A network behind an engine; it has the signature and the usage of the network.

    Args:
        network: In evaluation mode, on the device that does the work.
        precision: One of ``precisions``.

    Attributes:
        engine: Its name.
        precisions: Those that it computes in, the most exact first.
        why: Why it was chosen, for people; empty where it was asked for.
    """

    engine: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]

    def __init__(self, network: ChangeNetwork, precision: str):
        super().__init__(network)
        self.precision = precision
        self.why = ""

    def describe(self) -> dict[str, str]:
        """What computes, as far as bits depend on it: versions, kind of device, engine."""
        return {
            **describe_computing(self.device, self.engine),
            "precision": self.precision,
            # In less than float32 other units round otherwise.
            "units": "" if self.precision == "float32" else " ".join(find_units()),
            **self.versions(),
        }

    def as_computed(self) -> ChangeNetwork | None:
        """The network with the arithmetic that is done; ``None`` where it is not known."""
        return self.network

    def with_streams(self, streams: int | None) -> Engine:
        """The same engine for so many threads that call it at once, each computing alone."""
        return self

    def versions(self) -> dict[str, str]:
        """Of what computes beside torch."""
        return {}

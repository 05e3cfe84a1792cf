"""Which engine runs a network, and in which precision."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from ctma.devices import multiplies_bf16
from ctma.engines.engine import Engine
from ctma.engines.listing import check_engine, engine_names, find_engine
from ctma.engines.prepared import Prepared
from ctma.errors import CtmaError, SettingError
from ctma.models.base import ChangeNetwork, Fingerprint, evaluating
from ctma.settings import check_precision

AGREEMENT = 0.999
"""The share of validation pixels whose mask must be that of float32 for ``auto`` to take less."""

VARIABLE = "CTMA_ENGINE"
"""The environment variable that says which engine ``auto`` takes."""

NO_INT8 = "`precision` int8: needs a model that ctma quantize wrote"


class Choice(NamedTuple):
    """What runs a network.

    Attributes:
        engine: The engine's name.
        precision: One of its precisions.
        why: For people; empty where both were asked for.
    """

    engine: str
    precision: str
    why: str


def choose(network: ChangeNetwork, engine: str = "auto", precision: str = "auto") -> Choice:
    """Settles what is left open: the fastest that is here and known to agree with float32.

    Args:
        network: On the device that does the work.
        engine: An engine's name, or ``"auto"``.
        precision: ``"float32"``, ``"bf16"`` or ``"auto"``.

    Raises:
        UnknownNameError: If there is no such engine or precision.
        SettingError: If the engine does not compute in the precision.
        MissingExtraError: If the engine is not installed.
    """
    return next(_choices(network, engine, precision))


def prepare(
    network: ChangeNetwork,
    engine: str = "auto",
    precision: str = "auto",
    *,
    cache: bool = True,
    fingerprint: Fingerprint | None = None,
) -> Prepared:
    """A network behind the first engine, of those that may be taken, that can take the network.

    Args:
        network: On the device that does the work; left in the mode in which it is.
        engine: An engine's name; ``"auto"`` takes the fastest that is installed, or what the
            environment variable ``CTMA_ENGINE`` says.
        precision: ``"float32"``, ``"bf16"``; ``"auto"`` takes bf16 where the checkpoint records
            that masks agree with those of float32 on 99.9 % of the pixels.
        cache: Whether graphs are kept on disk for the next start.
        fingerprint: Gives the fingerprint of the weights, if it may be known already.

    Raises:
        UnknownNameError: If there is no such engine or precision.
        SettingError: If the engine cannot take the network, or not in this precision.
        MissingExtraError: If the engine is not installed.
    """
    fingerprint = fingerprint or Fingerprint(network)
    refused = ""
    for choice in _choices(network, engine, precision):
        kind = find_engine(choice.engine)
        try:
            with evaluating(network):
                running = kind(network, choice.precision, cache=cache, fingerprint=fingerprint)
        except SettingError as error:
            if _settle_engine(engine) != "auto":
                raise
            refused = f"; {error}"
            continue
        return Prepared(running, choice.why + refused)
    raise SettingError(refused.removeprefix("; "))


def candidates(network: ChangeNetwork) -> Iterator[Choice]:
    """Engines and precisions below float32 that are here, for those who measure agreement."""
    if not multiplies_bf16(network.device):
        return
    for kind, precision in _ranked():
        if precision in kind.measured and _is_usable(kind, network):
            yield Choice(kind.name, precision, "")


def _choices(network: ChangeNetwork, engine: str, precision: str) -> Iterator[Choice]:
    """What may be taken, the fastest first; at least one."""
    check_precision(precision)
    engine = _settle_engine(engine)
    if precision == "int8":
        raise SettingError(NO_INT8)
    if engine != "auto":
        kind = find_engine(engine)
        kind.check(network, precision)
        if precision != "auto" or not kind.rank:
            yield Choice(engine, kind.precisions[0] if precision == "auto" else precision, "")
            return
    for kind, offered in _ranked():
        if engine not in ("auto", kind.name) or precision not in ("auto", offered):
            continue
        if not _is_usable(kind, network):
            continue
        if offered == "float32" or precision == offered:
            why = _why_exact(network, engine) if precision == "auto" else ""
            yield Choice(kind.name, offered, why)
            continue
        agreement = find_agreement(network).get(f"{kind.name} {offered}", 0.0)
        if agreement >= AGREEMENT and multiplies_bf16(network.device):
            why = f"agrees with float32 on {100 * agreement:.2f} % of val"
            yield Choice(kind.name, offered, why)


def _ranked() -> list[tuple[type[Engine], str]]:
    """Engines and precisions in the order in which ``auto`` takes what there is.

    An engine of another package that cannot be loaded is left out, so that the others run.
    """
    ranked = []
    for name in engine_names():
        try:
            kind = find_engine(name)
        except CtmaError:
            continue
        ranked += [(rank, kind, precision) for precision, rank in kind.rank.items()]
    return [(kind, precision) for _, kind, precision in sorted(ranked, key=lambda one: one[0])]


def _is_usable(kind: type[Engine], network: ChangeNetwork) -> bool:
    return not kind.missing() and network.device.type in kind.devices


def _settle_engine(name: str) -> str:
    """The engine that was asked for, also by the environment."""
    check_engine(name)
    if name == "auto":
        name = os.environ.get(VARIABLE) or "auto"
        check_engine(name, f"engine in {VARIABLE}")
    return name


def find_agreement(network: ChangeNetwork) -> dict[str, float]:
    """What a network's checkpoint records of each engine and precision."""
    recorded: dict[str, float] = network.provenance.get("agreement", {})
    return recorded


def _why_exact(network: ChangeNetwork, engine: str) -> str:
    """Why float32 is taken."""
    if engine != "auto" and find_engine(engine).precisions == ("float32",):
        return f"{engine} computes in nothing else"
    if not multiplies_bf16(network.device):
        return "this processor does not multiply bf16"
    if not find_agreement(network):
        return "the checkpoint records no agreement of faster ones; ctma calibrate measures it"
    if engine != "auto" and f"{engine} bf16" not in find_agreement(network):
        return f"the checkpoint records no agreement of {engine}"
    return "nothing faster is installed that agrees with float32"

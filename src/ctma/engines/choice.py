"""The choice of the engine and the precision for a network."""

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
"""Least share of validation pixels with the float32 mask, for ``auto`` to take less precision."""

VARIABLE = "CTMA_ENGINE"
"""The environment variable with the engine that ``auto`` takes."""

NO_INT8 = "`precision` int8: needs a model that ctma quantize wrote"


class Choice(NamedTuple):
    """The engine and the precision for a network.

    Attributes:
        engine: The engine's name.
        precision: One of the engine's precisions.
        why: Reason for the choice, for users; empty if the user chose both.
    """

    engine: str
    precision: str
    why: str


def choose(network: ChangeNetwork, engine: str = "auto", precision: str = "auto") -> Choice:
    """Resolves ``"auto"``: the fastest installed engine and precision that agree with float32.

    Args:
        network: The network, on the device that computes.
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
    """Puts a network behind the first engine that can run the network.

    Args:
        network: The network, on the device that computes. Its mode stays the same.
        engine: An engine's name, or ``"auto"``. ``"auto"`` takes the engine of the environment
            variable ``CTMA_ENGINE``, else the fastest installed engine.
        precision: ``"float32"``, ``"bf16"`` or ``"auto"``. ``"auto"`` takes bf16 if the checkpoint
            records the same mask as float32 on 99.9 % of the pixels.
        cache: Whether to keep graphs on disk for the next start.
        fingerprint: Returns the fingerprint of the weights; may save its computation.

    Raises:
        UnknownNameError: If there is no such engine or precision.
        SettingError: If the engine cannot run the network, or not in this precision.
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
    """Usable engines with precisions below float32 whose agreement ctma measures."""
    if not multiplies_bf16(network.device):
        return
    for kind, precision in _ranked():
        if precision in kind.measured and _is_usable(kind, network):
            yield Choice(kind.name, precision, "")


def _choices(network: ChangeNetwork, engine: str, precision: str) -> Iterator[Choice]:
    """The allowed choices, the fastest first."""
    check_precision(precision)
    engine = _settle_engine(engine)
    if precision == "int8":
        raise SettingError(NO_INT8)
    if engine != "auto":
        kind = find_engine(engine)
        kind.check(network, precision)
        if precision != "auto" or "float32" not in kind.rank:
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
    """Engines and precisions in the order in which ``auto`` tries them.

    The list omits engines of other packages that fail to load, so that the other engines run.
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
    """Whether an engine takes a network, as far as the engine can tell beforehand."""
    try:
        kind.check(network, "auto")
    except CtmaError:
        return False
    return True


def _settle_engine(name: str) -> str:
    """The engine of the caller; for ``"auto"``, the engine of the environment variable if set."""
    check_engine(name)
    if name == "auto":
        name = os.environ.get(VARIABLE) or "auto"
        check_engine(name, f"engine in {VARIABLE}")
    return name


def find_agreement(network: ChangeNetwork) -> dict[str, float]:
    """Agreement with float32 that a checkpoint records, by ``"engine precision"``, in [0, 1]."""
    recorded: dict[str, float] = network.provenance.get("agreement", {})
    return recorded


def _why_exact(network: ChangeNetwork, engine: str) -> str:
    """The reason for float32."""
    if engine != "auto" and find_engine(engine).precisions == ("float32",):
        return f"{engine} computes in nothing else"
    if not multiplies_bf16(network.device):
        return "this processor does not multiply bf16"
    if not find_agreement(network):
        return "the checkpoint records no agreement of faster ones; ctma calibrate measures it"
    if engine != "auto" and f"{engine} bf16" not in find_agreement(network):
        return f"the checkpoint records no agreement of {engine}"
    return "nothing faster is installed that agrees with float32"

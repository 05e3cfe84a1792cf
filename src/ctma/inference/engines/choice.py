"""Which engine runs a network, and in which precision."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from ctma.devices import multiplies_bf16, read_precision
from ctma.errors import MissingExtraError, SettingError, UnknownNameError, extras
from ctma.inference.engines.engine import Engine
from ctma.models.base import ChangeNetwork, check_network

AGREEMENT = 0.999
"""The share of validation pixels whose mask must be that of float32 for ``auto`` to take less."""

VARIABLE = "CTMA_ENGINE"
"""The environment variable that says which engine ``auto`` takes."""


class _Entry(NamedTuple):
    """Where an engine stands, what it needs, and what it can do, known without loading it."""

    place: str
    packages: tuple[str, ...]
    precisions: tuple[str, ...]


ENGINES: Mapping[str, _Entry] = {
    "eager": _Entry("eager:Eager", (), ("float32", "bf16")),
    "exact": _Entry("exact:Exact", (), ("float32", "bf16")),
    "compile": _Entry("compiled:Compiled", (), ("float32", "bf16")),
    "openvino": _Entry("openvino:OpenVino", ("openvino", "onnx"), ("float32", "bf16")),
    "onnx": _Entry("onnx:Onnx", ("onnxruntime", "onnx"), ("float32",)),
}

FASTEST = (
    ("openvino", "bf16"),
    ("exact", "bf16"),
    ("openvino", "float32"),
    ("exact", "float32"),
    ("onnx", "float32"),
    ("compile", "bf16"),
    ("compile", "float32"),
    ("eager", "bf16"),
    ("eager", "float32"),
)
"""In the order in which ``auto`` takes what there is."""


_NO_INT8 = "`precision` int8: needs a model that ctma quantize wrote"


class Choice(NamedTuple):
    """What runs a network.

    Attributes:
        engine: One of ``ENGINES``.
        precision: One of its precisions.
        why: For people.
    """

    engine: str
    precision: str
    why: str


def check_engine(name: str, said: str = "engine") -> None:
    """Refuses what is no engine.

    Args:
        name: What was given.
        said: What it was given as.

    Raises:
        UnknownNameError: If there is no such engine.
    """
    if name not in (*ENGINES, "auto"):
        raise UnknownNameError(said, name, (*ENGINES, "auto"))


def is_installed(engine: str) -> bool:
    """Whether what an engine needs is here."""
    return not _missing(engine)


def check_installed(engine: str) -> None:
    """Refuses an engine that is not installed.

    Raises:
        MissingExtraError: If something that it needs is not here.
    """
    for package in _missing(engine):
        raise MissingExtraError(package, engine)


def _missing(engine: str) -> list[str]:
    return [package for package in ENGINES[engine].packages if find_spec(package) is None]


def choose(network: ChangeNetwork, engine: str = "auto", precision: str = "auto") -> Choice:
    """Settles what is left open: the fastest that is here and known to agree with float32.

    Of a network that was just prepared in this way it is what that came to, which is another
    where the fastest could not take it.

    Args:
        network: On the device that does the work.
        engine: One of ``ENGINES``, or ``"auto"``.
        precision: ``"float32"``, ``"bf16"`` or ``"auto"``.

    Raises:
        UnknownNameError: If there is no such engine or precision.
        SettingError: If the engine does not compute in the precision.
        MissingExtraError: If it is not installed.
    """
    if isinstance(network, Engine):
        given = _as_prepared(network, engine, precision)
        return Choice(given.engine, given.precision, given.why)
    asked = (engine, precision, os.environ.get(VARIABLE))
    known, wanted, (*_, device, _), prepared = _LAST.get("last", (None, None, (None, None), None))
    if known is network and wanted[:3] == asked and device == network.device:
        return Choice(prepared.engine, prepared.precision, prepared.why)
    return next(_choices(network, engine, precision))


def _choices(network: ChangeNetwork, engine: str, precision: str) -> Iterator[Choice]:
    """What may be taken, the fastest first; at least one."""
    precision, engine = read_precision(precision), _find_engine(engine)
    if engine != "auto":
        _check_asked(engine, precision, network)
        if precision != "auto":
            yield Choice(engine, precision, "")
            return
    found = False
    for name, kind in FASTEST:
        if engine not in ("auto", name) or precision not in ("auto", kind):
            continue
        if not is_installed(name) or not _runs_on(name, network):
            continue
        if kind == "float32" or precision == kind:
            found = True
            yield Choice(name, kind, _why_exact(network, engine) if precision == "auto" else "")
            continue
        agreement = find_agreement(network).get(f"{name} {kind}", 0.0)
        if agreement >= AGREEMENT and multiplies_bf16(network.device):
            found = True
            yield Choice(name, kind, f"agrees with float32 on {100 * agreement:.2f} % of val")
    if not found:
        raise SettingError(_NO_INT8)


def _find_engine(name: str) -> str:
    check_engine(name)
    if name == "auto":
        name = os.environ.get(VARIABLE) or "auto"
        check_engine(name, f"engine in {VARIABLE}")
    return name


def _runs_on(engine: str, network: ChangeNetwork) -> bool:
    return engine not in _ON_CPU or network.device.type == "cpu"


_ON_CPU = ("openvino", "onnx")


def find_agreement(network: ChangeNetwork) -> dict[str, float]:
    """What a network's checkpoint records of each engine and precision."""
    recorded: dict[str, float] = network.provenance.get("agreement", {})
    return recorded


def prepare(
    network: ChangeNetwork,
    engine: str = "auto",
    precision: str = "auto",
    *,
    streams: int | None = None,
    keep: bool = True,
) -> Engine:
    """A network that runs faster and says the same; it goes wherever a network goes.

    Args:
        network: As from ``load_model``; put into evaluation mode. One that was prepared already
            is given back, where nothing else is asked for.
        engine: ``"eager"``, ``"exact"``, ``"compile"``, ``"openvino"``, ``"onnx"``; ``"auto"``
            takes the fastest that is installed, or what the environment variable
            ``CTMA_ENGINE`` says.
        precision: ``"float32"``, ``"bf16"``; ``"auto"`` takes bf16 where the checkpoint records
            that masks agree with those of float32 on 99.9 % of the pixels.
        streams: How many threads will call it at once, each computing alone; sessions are then
            its own, whatever the network was prepared for before.
        keep: Whether graphs are kept on disk for the next start.

    Raises:
        UnknownNameError: If there is no such engine or precision.
        SettingError: If the engine cannot take the network, or not in this precision.
        MissingExtraError: If it is not installed.
    """
    check_network(network)
    if isinstance(network, Engine):
        return _as_prepared(network, engine, precision).with_streams(streams)
    network.eval()
    wanted = (engine, precision, os.environ.get(VARIABLE), keep)
    state = network.fingerprint(), network.usage, network.device, [*find_agreement(network).items()]
    known, *how, prepared = _LAST.get("last", (None, None, None, None))
    if known is network and how == [wanted, state]:
        assert isinstance(prepared, Engine)
        return prepared.eval().with_streams(streams)
    prepared = _prepare(network, engine, precision, keep).eval()
    _LAST["last"] = (network, wanted, state, prepared)
    return prepared.with_streams(streams)


_LAST: dict[str, tuple[Any, ...]] = {}
"""The network that was prepared last: callers who predict pair by pair give the same one."""


def _prepare(network: ChangeNetwork, engine: str, precision: str, keep: bool) -> Engine:
    """The first choice that can take the network; only where none was asked for, another."""
    refused = ""
    for found in _choices(network, engine, precision):
        try:
            options = {"keep": keep} if found.engine in _ON_CPU else {}
            prepared = _load(found.engine)(network, found.precision, **options)
        except SettingError as error:
            if _find_engine(engine) != "auto":
                raise
            refused = f"; {error}"
            continue
        prepared.why = found.why + refused
        return prepared
    raise SettingError(refused.removeprefix("; "))


def candidates(network: ChangeNetwork) -> Iterator[Choice]:
    """Engines and precisions below float32 that are here, for those who measure agreement."""
    if not multiplies_bf16(network.device):
        return
    for name, kind in FASTEST:
        measured = kind != "float32" and name in ("openvino", "exact")
        if measured and is_installed(name) and _runs_on(name, network):
            yield Choice(name, kind, "")


def _check_asked(engine: str, precision: str, network: ChangeNetwork) -> None:
    entry = ENGINES[engine]
    if precision == "int8":
        raise SettingError(_NO_INT8)
    if precision not in ("auto", *entry.precisions):
        raise SettingError(
            f"engine {engine} computes in {' and '.join(entry.precisions)}, not in {precision}"
        )
    if not _runs_on(engine, network):
        raise SettingError(f"engine {engine} runs on the CPU, not on {network.device}")
    check_installed(engine)


def _why_exact(network: ChangeNetwork, engine: str) -> str:
    if engine != "auto" and ENGINES[engine].precisions == ("float32",):
        return f"{engine} computes in nothing else"
    if not multiplies_bf16(network.device):
        return "this processor does not multiply bf16"
    if not find_agreement(network):
        return "the checkpoint records no agreement of faster ones; ctma calibrate measures it"
    if engine != "auto" and f"{engine} bf16" not in find_agreement(network):
        return f"the checkpoint records no agreement of {engine}"
    return "nothing faster is installed that agrees with float32"


def _as_prepared(network: Engine, engine: str, precision: str) -> Engine:
    wanted = read_precision(precision)
    if engine in ("auto", network.engine) and wanted in ("auto", network.precision):
        return network
    if wanted == "int8":
        raise SettingError(_NO_INT8)
    raise SettingError(
        f"the model was prepared as {network.engine} in {network.precision}, not as {engine} in "
        f"{precision}; give the network itself"
    )


def _load(engine: str) -> Callable[..., Engine]:
    module, _, name = ENGINES[engine].place.partition(":")
    with extras():
        found: Callable[..., Engine] = getattr(import_module(f"{__package__}.{module}"), name)
        return found

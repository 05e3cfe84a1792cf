"""Which device does the work, and in which precision."""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from ctma._version import __version__
from ctma.errors import SettingError
from ctma.settings import check_precision

TRAINER_PRECISIONS = {"float32": "32-true", "bf16": "bf16-mixed"}
"""Precisions of trainings, as Lightning calls them."""


def find_device(name: str) -> torch.device:
    """A device by name; ``"auto"`` takes the GPU where there is one.

    Raises:
        SettingError: If there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # Asked, not tried: a trial would take room on the GPU in every process of a training.
    here = ["cpu"]
    if torch.cuda.is_available():
        here += ["cuda", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        here.append("mps")
    if name not in here:
        raise SettingError(f"`device` {name!r} is not here; use auto or {', '.join(here)}")
    return torch.device(name)


def find_precision(name: str, device: torch.device) -> str:
    """A precision of training by name; ``"auto"`` is bf16 where the device multiplies it.

    Raises:
        UnknownNameError: If there is no such precision.
        SettingError: If nothing is trained in it.
    """
    check_precision(name)
    if name == "auto":
        return "bf16" if multiplies_bf16(device) else "float32"
    if name not in TRAINER_PRECISIONS:
        raise SettingError(f"`precision` {name}: take float32, bf16 or auto here")
    return name


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """The context that runs a network in a precision; errors as in :func:`find_precision`."""
    found = find_precision(precision, device)
    return torch.autocast(device.type, torch.bfloat16, enabled=found == "bf16")


def describe_computing(device: torch.device, engine: str) -> dict[str, str]:
    """What computes, as far as bits depend on it: versions, kind of device, engine."""
    return {
        "ctma": __version__,
        "torch": str(torch.__version__),
        "device": device.type,
        "engine": engine,
    }


def find_processor() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(": ")[2]
    return platform.processor() or platform.machine()


def describe_processor() -> dict[str, Any]:
    """The processor: its name, threads that torch uses, and units that small numbers want."""
    return {
        "name": find_processor(),
        "threads": torch.get_num_threads(),
        "units": find_units(),
    }


def find_units() -> list[str]:
    """The processor's units that small numbers want."""
    # Older releases of torch do not tell.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    known = ("avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    return [unit for unit in known if capabilities.get(unit, False)]


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a device has units that multiply bf16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    units = {"amx_bf16", "avx512_bf16"}
    return device.type == "cpu" and not units.isdisjoint(find_units())

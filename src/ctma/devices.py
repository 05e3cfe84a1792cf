"""Finds the device that computes, and the precision; loads torch only when asked for a device."""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctma._version import __version__
from ctma.errors import SettingError, UnknownNameError

if TYPE_CHECKING:
    import torch

TRAINER_PRECISIONS = {"float32": "32-true", "bf16": "bf16-mixed"}
"""Precisions of trainings, as Lightning calls them."""


def find_device(name: str) -> torch.device:
    """A device by name; ``"auto"`` takes the GPU where there is one.

    Raises:
        SettingError: If there is no such device.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # List the devices, but do not try them: a trial would take GPU memory in every process of a
    # training.
    here = ["cpu"]
    if torch.cuda.is_available():
        here += ["cuda", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        here.append("mps")
    if name not in here:
        raise SettingError(f"`device` {name!r} is not here; use auto or {', '.join(here)}")
    return torch.device(name)


def find_precision(name: str, device: torch.device) -> str:
    """A training precision by name; ``"auto"`` is bf16 on devices that multiply bf16.

    Raises:
        UnknownNameError: If there is no such precision.
        SettingError: If networks cannot be trained in this precision.
    """
    if name == "auto":
        return "bf16" if multiplies_bf16(device) else "float32"
    if name not in TRAINER_PRECISIONS:
        raise UnknownNameError("precision of trainings", name, (*TRAINER_PRECISIONS, "auto"))
    return name


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """The context that runs a network in a precision; errors as in ``find_precision``."""
    import torch

    actual_precision = find_precision(precision, device)
    return torch.autocast(device.type, torch.bfloat16, enabled=actual_precision == "bf16")


def describe_computing(device: torch.device, engine: str) -> dict[str, str]:
    """The versions, kind of device and engine that the exact bits of the output depend on."""
    import torch

    return {
        "ctma": __version__,
        "torch": str(torch.__version__),
        "device": device.type,
        "engine": engine,
    }


def find_processor() -> str:
    """The processor's name, as far as the system reports the name."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(": ")[2]
    return platform.processor() or platform.machine()


def describe_processor() -> dict[str, Any]:
    """The processor: its name, the threads that torch uses, and its units for bf16 and int8."""
    import torch

    return {
        "name": find_processor(),
        "threads": torch.get_num_threads(),
        "units": find_units(),
    }


def find_units() -> list[str]:
    """The processor's units for bf16 and int8 arithmetic."""
    import torch

    # Older releases of torch do not have this function.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    units = ("avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    return [unit for unit in units if capabilities.get(unit, False)]


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a device has units that multiply bf16."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    units = {"amx_bf16", "avx512_bf16"}
    return device.type == "cpu" and not units.isdisjoint(find_units())

"""Which device does the work, and in which precision."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager

import torch

from ctma.errors import SettingError

PRECISIONS = ("32-true", "bf16-mixed")


def find_device(name: str) -> torch.device:
    """A device by name; ``"auto"`` takes the GPU where there is one.

    Raises:
        SettingError: If there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
            raise RuntimeError(name)
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise SettingError(f"device {name!r} is not here; use auto or cpu") from error


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """The context that runs a network in a precision.

    Raises:
        SettingError: If there is no such precision.
    """
    if precision not in PRECISIONS:
        raise SettingError(f"precision {precision!r} is none of {', '.join(PRECISIONS)}")
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed")


def fast_precision(accelerator: str) -> str:
    """The precision that trains fastest here: bf16 where the hardware multiplies it.

    Args:
        accelerator: As of a training; ``"cpu"`` leaves the GPU out of it.
    """
    if accelerator != "cpu" and torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bf16-mixed" if fast else "32-true"

"""Keeps freed memory in the process, for the next layer of a network."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from functools import cache

KEEP_MEMORY = "CTMA_KEEP_MEMORY"
"""Environment variable. The command lines set it to 1; other values change nothing."""

# Settings of glibc's allocator, as mallopt(3) numbers them.
_MAPPINGS, _FREE_AT_THE_END = -4, -1


def keep_by_default() -> None:
    """Sets ``CTMA_KEEP_MEMORY`` to 1 for a command's own process, unless the user has set it."""
    os.environ.setdefault(KEEP_MEMORY, "1")


def keep_memory() -> None:
    """Makes glibc keep the memory that this process frees, where ``CTMA_KEEP_MEMORY`` is 1.

    Without this, the memory of each layer's maps goes back to the system. The system then clears
    every page again for the next layer: up to half of a network's time on a CPU.

    The setting holds for the rest of the process and for all its allocations. The process keeps
    freed memory that lies below memory in use. This suits a command better than a program that
    also computes other things.
    """
    if os.environ.get(KEEP_MEMORY) == "1":
        _set_allocator()


@cache
def _set_allocator() -> None:
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        allocator = ctypes.CDLL(None)
        for what, value in ((_MAPPINGS, 0), (_FREE_AT_THE_END, 2**31 - 1)):
            allocator.mallopt(what, value)

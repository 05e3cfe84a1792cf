"""Settings of the allocator for a command's own process."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from functools import cache

KEEP_MEMORY = "CTMA_KEEP_MEMORY"
"""Environment variable. The command lines set it to 1; other values change nothing."""

# Settings of glibc's allocator, as mallopt(3) numbers them.
_MAPPINGS, _FREE_AT_THE_END, _HEAPS = -4, -1, -8


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
        _set_allocator(_MAPPINGS, 0)
        _set_allocator(_FREE_AT_THE_END, 2**31 - 1)


def share_heap() -> None:
    """Makes threads to come allocate from one heap, where ``CTMA_KEEP_MEMORY`` is 1.

    By default glibc gives each thread a heap. What one thread frees, no other thread takes, so a
    scene of 20,480 x 20,480 took 1.4 GB in place of 1.0 GB.
    """
    if os.environ.get(KEEP_MEMORY) == "1":
        _set_allocator(_HEAPS, 1)


@cache
def _set_allocator(what: int, value: int) -> None:
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(what, value)

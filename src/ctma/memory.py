"""Memory that a process keeps from layer to layer."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from functools import cache

KEEP_MEMORY = "CTMA_KEEP_MEMORY"
"""The command lines set it to 1; anything else leaves the allocator as it is."""

# Settings of glibc's allocator, as mallopt(3) numbers them.
_MAPPINGS, _FREE_AT_THE_END = -4, -1


def keep_by_default() -> None:
    """For processes that are a command's own: memory is kept where the user says nothing else."""
    os.environ.setdefault(KEEP_MEMORY, "1")


def keep_memory() -> None:
    """Has this process keep memory that it frees, where ``KEEP_MEMORY`` says so, under glibc.

    Else the maps of each layer go back to the system, which clears every page of the next one's
    again: up to half of the time of a network on a CPU. For the rest of the process, and for all
    that it allocates: what is freed below memory still in use stays with it, which suits a command
    better than a program that computes other things too.
    """
    if os.environ.get(KEEP_MEMORY) == "1":
        _set_allocator()


@cache
def _set_allocator() -> None:
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        allocator = ctypes.CDLL(None)
        for what, value in ((_MAPPINGS, 0), (_FREE_AT_THE_END, 2**31 - 1)):
            allocator.mallopt(what, value)

"""Ctrl-C, at a moment when Python can take it."""

from __future__ import annotations

import _thread
import signal
import threading
from types import FrameType

LATER = 0.05
"""Seconds until the next try."""


def heed_interrupts() -> None:
    """Has Ctrl-C wait for the end of an import.

    A ``KeyboardInterrupt`` in the midst of an import may leave Python's lock of imports taken, and
    every thread that imports then waits for ever. Where Ctrl-C is ignored, it stays so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    at = frame
    while at is not None:
        if at.f_globals.get("__name__") == "importlib._bootstrap":
            timer = threading.Timer(LATER, _again)
            timer.daemon = True
            timer.start()
            return
        at = at.f_back
    signal.default_int_handler(number, frame)


def _again() -> None:
    """Interrupts the main thread once more, also where it waits."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, signal.SIGINT)
    else:  # on Windows
        _thread.interrupt_main()

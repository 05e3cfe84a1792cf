"""``ctma``, and ``python -m ctma``."""

import atexit
import gc
import sys

from ctma.cli.interrupts import heed_interrupts


def main() -> None:
    """Runs the command line."""
    heed_interrupts()
    atexit.register(_end_soon)
    from ctma.cli.app import main as run

    run()


def _end_soon() -> None:
    """Spares Python its last search for cycles, 0.3 s of a run.

    Without that search, packages that come with torch report leaks.
    """
    if "torch" not in sys.modules:
        gc.freeze()


if __name__ == "__main__":
    main()

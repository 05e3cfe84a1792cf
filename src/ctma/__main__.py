"""``ctma``, and ``python -m ctma``."""

import sys


def main() -> None:
    """Runs the command line; Ctrl-C ends also a start that is still loading with one line."""
    try:
        from ctma.cli.app import main as run
    except KeyboardInterrupt:
        print("\nctma: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    run()


if __name__ == "__main__":
    main()

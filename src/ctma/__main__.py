"""``ctma``, and ``python -m ctma``."""

from ctma.cli.interrupts import heed_interrupts


def main() -> None:
    """Runs the command line."""
    heed_interrupts()
    from ctma.cli.app import main as run

    run()


if __name__ == "__main__":
    main()

"""``python -m ctma``."""

from ctma.cli.app import main

main()

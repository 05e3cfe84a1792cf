"""The released implementation's command line; see docs/guides/coming-from-the-original.md."""

from ctma.compat.command import main

if __name__ == "__main__":
    main()

"""The version, for the build and for everything that is written down with it."""

__version__ = "0.1.0"

"""The version of ctma, for the build and for all records that name the version."""

__version__ = "0.1.0"

"""Checkpoints with a header, and weight files of the released implementations."""

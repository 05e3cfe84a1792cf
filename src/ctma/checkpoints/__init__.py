"""Weights that say what they are, and those of the released implementations."""

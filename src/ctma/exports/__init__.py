"""Exports networks as graph files, and reads and runs exported models."""

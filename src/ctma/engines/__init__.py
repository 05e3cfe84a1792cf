"""Engines: each prepares a network to run faster with the same results."""

"""Engines: each makes of a network something that runs faster and says the same."""

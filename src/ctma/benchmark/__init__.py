"""Trains networks × seeds on one data set, scores each once by one protocol, writes a table."""

"""Surveys of a map: samples of places, and what they say of areas and accuracies."""

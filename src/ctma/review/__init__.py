"""The offline review page: look, decide, and take the decisions in."""

"""The networks: one file per paper, each with ``forward(before, after) -> ChangeLogits``."""

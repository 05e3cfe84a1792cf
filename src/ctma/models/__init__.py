"""The networks: one file a paper, all with ``forward(before, after) -> ChangeLogits``."""

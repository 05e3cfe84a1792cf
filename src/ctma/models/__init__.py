"""The networks: one file each, all with ``forward(before, after) -> ChangeLogits``."""

from ctma.models.blocks import MINIMUM_SIZE, ChangeLogits, ChangeNetwork
from ctma.models.registry import create_model, list_models

__all__ = ["MINIMUM_SIZE", "ChangeLogits", "ChangeNetwork", "create_model", "list_models"]

"""Networks by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

from ctma.errors import SettingError, UnknownNameError
from ctma.models.blocks import ChangeNetwork
from ctma.models.ctma import CTMA, ctma_s

_NETWORKS: dict[str, Callable[..., ChangeNetwork]] = {"ctma": CTMA, "ctma-s": ctma_s}


def list_models() -> list[str]:
    """Names that :func:`create_model` takes."""
    return sorted(_NETWORKS)


def create_model(name: str, **args: Any) -> ChangeNetwork:
    """Builds a network with random weights, in training mode.

    Args:
        name: One of :func:`list_models`.
        **args: The network's own arguments, such as ``video_len=8, fusion=0.67``.

    Raises:
        UnknownNameError: If there is no such network, or it takes no such argument.
        SettingError: If an argument has a value that the network cannot be built with.
    """
    known = model_arguments(name)
    for key in args:
        if key not in known:
            raise UnknownNameError(f"argument of {name}", key, known)
    try:
        return _find(name)(**args)
    except (TypeError, ValueError) as error:
        if isinstance(error, UnknownNameError | SettingError):
            raise
        raise SettingError(f"cannot build {name} with {args}: {error}") from error


def model_arguments(name: str) -> dict[str, Any]:
    """Arguments of a network with their defaults; errors as in :func:`create_model`."""
    parameters = inspect.signature(_find(name)).parameters
    return {key: parameter.default for key, parameter in parameters.items()}


def model_hints(name: str) -> dict[str, Any]:
    """Types of a network's arguments; errors as in :func:`create_model`."""
    network = _find(name)
    return get_type_hints(network.__init__ if inspect.isclass(network) else network)


def _find(name: str) -> Callable[..., ChangeNetwork]:
    if name not in _NETWORKS:
        raise UnknownNameError("network", name, _NETWORKS)
    return _NETWORKS[name]

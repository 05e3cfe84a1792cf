"""ctma finds what changed between two images of the same place."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ctma.checkpoints import load_model
from ctma.errors import CtmaError, MissingExtraError
from ctma.models import ChangeLogits, create_model, list_models
from ctma.prediction import Prediction, predict

if TYPE_CHECKING:
    from ctma.scene.arrays import predict_xarray
    from ctma.scene.predict import predict_scene

__version__ = "0.1.0"

__all__ = [
    "ChangeLogits",
    "CtmaError",
    "Prediction",
    "create_model",
    "list_models",
    "load_model",
    "predict",
    "predict_scene",
    "predict_xarray",
]

_EXTRAS = {
    "predict_scene": ("ctma.scene.predict", "scene"),
    "predict_xarray": ("ctma.scene.arrays", "dask"),
}


def __getattr__(name: str) -> Any:
    """Loads what needs an extra only when it is asked for."""
    if name not in _EXTRAS:
        raise AttributeError(f"module 'ctma' has no attribute {name!r}")
    module, extra = _EXTRAS[name]
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or module, extra) from error

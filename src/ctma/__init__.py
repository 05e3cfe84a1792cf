"""ctma finds what changed between two images of the same place."""

from ctma.checkpoints import load_model
from ctma.errors import CtmaError
from ctma.models import ChangeLogits, create_model, list_models
from ctma.prediction import Prediction, predict

__version__ = "0.1.0"

__all__ = [
    "ChangeLogits",
    "CtmaError",
    "Prediction",
    "create_model",
    "list_models",
    "load_model",
    "predict",
]

"""ctma finds what changed between two images of the same place.

Every public name is loaded when it is first asked for, so that ``import ctma`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ctma._version import __version__ as __version__
from ctma.errors import extras

if TYPE_CHECKING:
    from ctma.checkpoints.header import read_header as read_header
    from ctma.checkpoints.store import load_model as load_model
    from ctma.checkpoints.store import save_model as save_model
    from ctma.data.pairs import Pair as Pair
    from ctma.errors import CtmaError as CtmaError
    from ctma.evaluation.calibration import Calibration as Calibration
    from ctma.evaluation.calibration import calibrate as calibrate
    from ctma.evaluation.report import Report as Report
    from ctma.evaluation.report import evaluate as evaluate
    from ctma.evaluation.scoring import Scoring as Scoring
    from ctma.extending import register as register
    from ctma.inference.engines.choice import prepare as prepare
    from ctma.inference.export import export as export
    from ctma.inference.images import Prediction as Prediction
    from ctma.inference.images import predict as predict
    from ctma.models.base import ChangeLogits as ChangeLogits
    from ctma.models.base import ChangeNetwork as ChangeNetwork
    from ctma.models.base import Usage as Usage
    from ctma.models.registry import create_model as create_model
    from ctma.models.registry import list_models as list_models
    from ctma.scene.arrays import predict_xarray as predict_xarray
    from ctma.scene.blending import Tiling as Tiling
    from ctma.scene.predict import SceneResult as SceneResult
    from ctma.scene.predict import predict_scene as predict_scene
    from ctma.scene.settings import SceneSettings as SceneSettings
    from ctma.training.keeper import TrainingResult as TrainingResult
    from ctma.training.recipes import list_recipes as list_recipes
    from ctma.training.recipes import load_recipe as load_recipe
    from ctma.training.run import train as train
    from ctma.training.settings import Recipe as Recipe


_PUBLIC = {
    "Calibration": "ctma.evaluation.calibration",
    "ChangeLogits": "ctma.models.base",
    "ChangeNetwork": "ctma.models.base",
    "CtmaError": "ctma.errors",
    "Pair": "ctma.data.pairs",
    "Prediction": "ctma.inference.images",
    "Recipe": "ctma.training.settings",
    "Report": "ctma.evaluation.report",
    "SceneResult": "ctma.scene.predict",
    "SceneSettings": "ctma.scene.settings",
    "Scoring": "ctma.evaluation.scoring",
    "Tiling": "ctma.scene.blending",
    "TrainingResult": "ctma.training.keeper",
    "Usage": "ctma.models.base",
    "calibrate": "ctma.evaluation.calibration",
    "create_model": "ctma.models.registry",
    "evaluate": "ctma.evaluation.report",
    "export": "ctma.inference.export",
    "list_models": "ctma.models.registry",
    "list_recipes": "ctma.training.recipes",
    "load_model": "ctma.checkpoints.store",
    "load_recipe": "ctma.training.recipes",
    "predict": "ctma.inference.images",
    "predict_scene": "ctma.scene.predict",
    "predict_xarray": "ctma.scene.arrays",
    "prepare": "ctma.inference.engines.choice",
    "read_header": "ctma.checkpoints.header",
    "register": "ctma.extending",
    "save_model": "ctma.checkpoints.store",
    "train": "ctma.training.run",
}
"""Every public name and where it stands."""

__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    """Loads a public name; where it needs an extra that is not installed, the error names it."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'ctma' has no attribute {name!r}")
    with extras():
        return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

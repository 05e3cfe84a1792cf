"""ctma finds what changed between two images of the same place.

Python loads each public name at its first use, so ``import ctma`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ctma._version import __version__ as __version__
from ctma.errors import extras

if TYPE_CHECKING:
    from ctma.adaptation.adapt import Adaptation as Adaptation
    from ctma.adaptation.adapt import Gain as Gain
    from ctma.adaptation.adapt import adapt as adapt
    from ctma.adaptation.learning import Learning as Learning
    from ctma.adaptation.preparation import LabelledScene as LabelledScene
    from ctma.adaptation.preparation import prepare_labels as prepare_labels
    from ctma.adaptation.preparation import prepare_reviewed as prepare_reviewed
    from ctma.adaptation.settings import AdaptationSettings as AdaptationSettings
    from ctma.adaptation.settings import LabelSettings as LabelSettings
    from ctma.benchmark.matrix import BenchmarkEstimate as BenchmarkEstimate
    from ctma.benchmark.matrix import BenchmarkResult as BenchmarkResult
    from ctma.benchmark.matrix import estimate_benchmark as estimate_benchmark
    from ctma.benchmark.matrix import run_benchmark as run_benchmark
    from ctma.benchmark.plan import BenchmarkPlan as BenchmarkPlan
    from ctma.benchmark.report import write_benchmark_report as write_benchmark_report
    from ctma.checkpoints.conversion import convert as convert
    from ctma.checkpoints.header import read_header as read_header
    from ctma.checkpoints.store import load_model as load_model
    from ctma.checkpoints.store import save_model as save_model
    from ctma.data.doctor import Diagnosis as Diagnosis
    from ctma.data.doctor import check as check
    from ctma.data.pairs import Pair as Pair
    from ctma.data.preparation import PreparedData as PreparedData
    from ctma.data.preparation import prepare as prepare
    from ctma.demo import DemoResult as DemoResult
    from ctma.demo import run_demo as run_demo
    from ctma.engines.engine import Engine as Engine
    from ctma.engines.listing import list_engines as list_engines
    from ctma.errors import CheckpointError as CheckpointError
    from ctma.errors import CtmaError as CtmaError
    from ctma.errors import CtmaWarning as CtmaWarning
    from ctma.errors import DataError as DataError
    from ctma.errors import ImageError as ImageError
    from ctma.errors import MissingExtraError as MissingExtraError
    from ctma.errors import OutputError as OutputError
    from ctma.errors import SceneError as SceneError
    from ctma.errors import SettingError as SettingError
    from ctma.errors import UnknownNameError as UnknownNameError
    from ctma.evaluation.calibration import Calibration as Calibration
    from ctma.evaluation.calibration import calibrate as calibrate
    from ctma.evaluation.comparison import compare as compare
    from ctma.evaluation.masks import MaskScores as MaskScores
    from ctma.evaluation.masks import evaluate_masks as evaluate_masks
    from ctma.evaluation.metrics import Scores as Scores
    from ctma.evaluation.misses import MissLimit as MissLimit
    from ctma.evaluation.misses import MissSettings as MissSettings
    from ctma.evaluation.misses import limit_misses as limit_misses
    from ctma.evaluation.quantization import Quantization as Quantization
    from ctma.evaluation.quantization import quantize as quantize
    from ctma.evaluation.records import HowScored as HowScored
    from ctma.evaluation.records import KeptScore as KeptScore
    from ctma.evaluation.records import ScoreRecord as ScoreRecord
    from ctma.evaluation.report import EvaluationResult as EvaluationResult
    from ctma.evaluation.report import evaluate as evaluate
    from ctma.evaluation.scoring import Scoring as Scoring
    from ctma.evaluation.seen import remember_seen as remember_seen
    from ctma.evaluation.speed import Timing as Timing
    from ctma.evaluation.speed import bench as bench
    from ctma.exports.formats import export as export
    from ctma.extending import register as register
    from ctma.figures.explain import explain as explain
    from ctma.inference.batch import FilePrediction as FilePrediction
    from ctma.inference.batch import Prediction as Prediction
    from ctma.inference.doubt import Seen as Seen
    from ctma.inference.images import predict as predict
    from ctma.inference.images import predict_files as predict_files
    from ctma.inference.info import info as info
    from ctma.inference.predictor import Predictor as Predictor
    from ctma.inference.predictor import load as load
    from ctma.inference.running import Running as Running
    from ctma.models.base import ChangeLogits as ChangeLogits
    from ctma.models.base import ChangeNetwork as ChangeNetwork
    from ctma.models.registry import create_model as create_model
    from ctma.models.registry import list_models as list_models
    from ctma.models.usage import Usage as Usage
    from ctma.review.apply import AppliedDecisions as AppliedDecisions
    from ctma.review.apply import apply_decisions as apply_decisions
    from ctma.review.comparison import MapComparison as MapComparison
    from ctma.review.comparison import PixelAgreement as PixelAgreement
    from ctma.review.comparison import compare_maps as compare_maps
    from ctma.review.decisions import Agreement as Agreement
    from ctma.review.page import ReviewPage as ReviewPage
    from ctma.review.page import write_review as write_review
    from ctma.scene.arrays import predict_xarray as predict_xarray
    from ctma.scene.blending import Tiling as Tiling
    from ctma.scene.files import Scene as Scene
    from ctma.scene.files import find_scenes as find_scenes
    from ctma.scene.predict import SceneResult as SceneResult
    from ctma.scene.predict import predict_scene as predict_scene
    from ctma.scene.settings import SceneSettings as SceneSettings
    from ctma.survey.area import AreaEstimate as AreaEstimate
    from ctma.survey.area import estimate_area as estimate_area
    from ctma.survey.census import Census as Census
    from ctma.survey.estimators import Estimate as Estimate
    from ctma.survey.page import write_survey as write_survey
    from ctma.survey.samples import Sample as Sample
    from ctma.survey.samples import draw_sample as draw_sample
    from ctma.survey.settings import SampleSettings as SampleSettings
    from ctma.training.keeper import TrainingResult as TrainingResult
    from ctma.training.recipes import list_recipes as list_recipes
    from ctma.training.recipes import load_recipe as load_recipe
    from ctma.training.run import train as train
    from ctma.training.settings import Recipe as Recipe


_PUBLIC = {
    "Adaptation": "ctma.adaptation.adapt",
    "AdaptationSettings": "ctma.adaptation.settings",
    "Agreement": "ctma.review.decisions",
    "AppliedDecisions": "ctma.review.apply",
    "AreaEstimate": "ctma.survey.area",
    "BenchmarkEstimate": "ctma.benchmark.matrix",
    "BenchmarkPlan": "ctma.benchmark.plan",
    "BenchmarkResult": "ctma.benchmark.matrix",
    "Calibration": "ctma.evaluation.calibration",
    "Census": "ctma.survey.census",
    "ChangeLogits": "ctma.models.base",
    "ChangeNetwork": "ctma.models.base",
    "CheckpointError": "ctma.errors",
    "CtmaError": "ctma.errors",
    "CtmaWarning": "ctma.errors",
    "DataError": "ctma.errors",
    "DemoResult": "ctma.demo",
    "Diagnosis": "ctma.data.doctor",
    "Engine": "ctma.engines.engine",
    "Estimate": "ctma.survey.estimators",
    "EvaluationResult": "ctma.evaluation.report",
    "FilePrediction": "ctma.inference.batch",
    "Gain": "ctma.adaptation.adapt",
    "HowScored": "ctma.evaluation.records",
    "ImageError": "ctma.errors",
    "KeptScore": "ctma.evaluation.records",
    "LabelSettings": "ctma.adaptation.settings",
    "LabelledScene": "ctma.adaptation.preparation",
    "Learning": "ctma.adaptation.learning",
    "MapComparison": "ctma.review.comparison",
    "MaskScores": "ctma.evaluation.masks",
    "MissLimit": "ctma.evaluation.misses",
    "MissSettings": "ctma.evaluation.misses",
    "MissingExtraError": "ctma.errors",
    "OutputError": "ctma.errors",
    "Pair": "ctma.data.pairs",
    "PixelAgreement": "ctma.review.comparison",
    "Prediction": "ctma.inference.batch",
    "Predictor": "ctma.inference.predictor",
    "PreparedData": "ctma.data.preparation",
    "Quantization": "ctma.evaluation.quantization",
    "Recipe": "ctma.training.settings",
    "ReviewPage": "ctma.review.page",
    "Running": "ctma.inference.running",
    "Sample": "ctma.survey.samples",
    "SampleSettings": "ctma.survey.settings",
    "Scene": "ctma.scene.files",
    "SceneError": "ctma.errors",
    "SceneResult": "ctma.scene.predict",
    "SceneSettings": "ctma.scene.settings",
    "ScoreRecord": "ctma.evaluation.records",
    "Scores": "ctma.evaluation.metrics",
    "Scoring": "ctma.evaluation.scoring",
    "Seen": "ctma.inference.doubt",
    "SettingError": "ctma.errors",
    "Tiling": "ctma.scene.blending",
    "Timing": "ctma.evaluation.speed",
    "TrainingResult": "ctma.training.keeper",
    "UnknownNameError": "ctma.errors",
    "Usage": "ctma.models.usage",
    "adapt": "ctma.adaptation.adapt",
    "apply_decisions": "ctma.review.apply",
    "bench": "ctma.evaluation.speed",
    "calibrate": "ctma.evaluation.calibration",
    "check": "ctma.data.doctor",
    "compare": "ctma.evaluation.comparison",
    "compare_maps": "ctma.review.comparison",
    "convert": "ctma.checkpoints.conversion",
    "create_model": "ctma.models.registry",
    "draw_sample": "ctma.survey.samples",
    "estimate_area": "ctma.survey.area",
    "estimate_benchmark": "ctma.benchmark.matrix",
    "evaluate": "ctma.evaluation.report",
    "evaluate_masks": "ctma.evaluation.masks",
    "explain": "ctma.figures.explain",
    "export": "ctma.exports.formats",
    "find_scenes": "ctma.scene.files",
    "info": "ctma.inference.info",
    "limit_misses": "ctma.evaluation.misses",
    "list_engines": "ctma.engines.listing",
    "list_models": "ctma.models.registry",
    "list_recipes": "ctma.training.recipes",
    "load": "ctma.inference.predictor",
    "load_model": "ctma.checkpoints.store",
    "load_recipe": "ctma.training.recipes",
    "predict": "ctma.inference.images",
    "predict_files": "ctma.inference.images",
    "predict_scene": "ctma.scene.predict",
    "predict_xarray": "ctma.scene.arrays",
    "prepare": "ctma.data.preparation",
    "prepare_labels": "ctma.adaptation.preparation",
    "prepare_reviewed": "ctma.adaptation.preparation",
    "quantize": "ctma.evaluation.quantization",
    "read_header": "ctma.checkpoints.header",
    "register": "ctma.extending",
    "remember_seen": "ctma.evaluation.seen",
    "run_benchmark": "ctma.benchmark.matrix",
    "run_demo": "ctma.demo",
    "save_model": "ctma.checkpoints.store",
    "train": "ctma.training.run",
    "write_benchmark_report": "ctma.benchmark.report",
    "write_review": "ctma.review.page",
    "write_survey": "ctma.survey.page",
}
"""Every public name and where it stands."""

__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    """Loads a public name; the error names the extra, if the name needs one that is missing."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'ctma' has no attribute {name!r}")
    with extras():
        return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

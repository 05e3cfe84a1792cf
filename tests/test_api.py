"""The public API: its names, and prediction on arrays."""

import inspect
import re

import numpy as np
import pytest
import torch
from PIL import Image

import ctma
from ctma.cli.app import app
from ctma.data.images import read_image
from ctma.errors import CtmaError, ImageError
from support.images import random_image

PUBLIC = [
    "Adaptation",
    "AdaptationSettings",
    "Agreement",
    "AppliedDecisions",
    "AreaEstimate",
    "BenchmarkEstimate",
    "BenchmarkPlan",
    "BenchmarkResult",
    "Calibration",
    "Census",
    "ChangeLogits",
    "ChangeNetwork",
    "CheckpointError",
    "CtmaError",
    "CtmaWarning",
    "DataError",
    "DemoResult",
    "Diagnosis",
    "Engine",
    "Estimate",
    "EvaluationResult",
    "FilePrediction",
    "Gain",
    "HowScored",
    "ImageError",
    "KeptScore",
    "LabelSettings",
    "LabelledScene",
    "Learning",
    "MapComparison",
    "MaskScores",
    "MissLimit",
    "MissSettings",
    "MissingExtraError",
    "OutputError",
    "Pair",
    "PixelAgreement",
    "Prediction",
    "Predictor",
    "PreparedData",
    "Quantization",
    "Recipe",
    "ReviewPage",
    "Running",
    "Sample",
    "SampleSettings",
    "Scene",
    "SceneError",
    "SceneResult",
    "SceneSettings",
    "ScoreRecord",
    "Scores",
    "Scoring",
    "Seen",
    "SettingError",
    "Tiling",
    "Timing",
    "TrainingResult",
    "UnknownNameError",
    "Usage",
    "__version__",
    "adapt",
    "apply_decisions",
    "bench",
    "calibrate",
    "check",
    "compare",
    "compare_maps",
    "convert",
    "create_model",
    "draw_sample",
    "estimate_area",
    "estimate_benchmark",
    "evaluate",
    "evaluate_masks",
    "explain",
    "export",
    "find_scenes",
    "info",
    "limit_misses",
    "list_engines",
    "list_models",
    "list_recipes",
    "load",
    "load_model",
    "load_recipe",
    "predict",
    "predict_files",
    "predict_scene",
    "predict_xarray",
    "prepare",
    "prepare_labels",
    "prepare_reviewed",
    "quantize",
    "read_header",
    "register",
    "remember_seen",
    "run_benchmark",
    "run_demo",
    "save_model",
    "train",
    "write_benchmark_report",
    "write_review",
    "write_survey",
]


def test_the_public_names_are_these():
    assert sorted(ctma.__all__) == PUBLIC
    assert set(PUBLIC) <= set(dir(ctma))
    with pytest.raises(AttributeError, match="no attribute 'predicted'"):
        _ = ctma.predicted


@pytest.mark.parametrize("name", [name for name in PUBLIC if name != "__version__"])
def test_every_public_name_is_documented(name):
    public = getattr(ctma, name)
    own = vars(public).get("__doc__") if inspect.isclass(public) else public.__doc__
    assert own
    assert not own.startswith(f"{name}("), "a signature that Python has made is no documentation"


def test_type_checkers_see_every_name_where_it_is_loaded_from():
    lines = re.findall(r"^    from (\S+) import (.+)$", inspect.getsource(ctma), re.MULTILINE)
    seen = {name.split(" as ")[0]: module for module, names in lines for name in names.split(", ")}
    assert seen == ctma._PUBLIC


FUNCTIONS = {
    "demo": "run_demo", "eval": "evaluate", "recipes": "list_recipes", "engines": "list_engines",
    "benchmark": "run_benchmark", "review": "write_review", "sample": "draw_sample",
    "area": "estimate_area",
}  # fmt: skip
"""Functions that are not called like their command."""


def test_every_command_has_its_function():
    commands = {command.name for command in app.registered_commands}
    commands |= {group.name for group in app.registered_groups}
    assert len(commands) == 21
    missing = {name for name in commands if FUNCTIONS.get(name, name) not in PUBLIC}
    assert missing == set()


def test_public_functions_have_their_options_as_keywords_of_their_own():
    functions = [getattr(ctma, name) for name in PUBLIC if inspect.isfunction(getattr(ctma, name))]
    assert len(functions) > 25
    open_ended = {
        function.__name__
        for function in functions
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }
    # A network's own arguments, and the fields of a header.
    assert open_ended == {"create_model", "save_model"}


@pytest.fixture(scope="module")
def model(tiny_model):
    return ctma.load_model(tiny_model)


@pytest.mark.parametrize("size", [64, 40, 130])
def test_predict_gives_probability_and_mask_of_the_image_size(model, size):
    before, after = random_image(1, size), random_image(2, size)
    prediction = ctma.predict(before, after, model, threshold=0.3)
    assert prediction.probability.shape == prediction.mask.shape == (size, size)
    assert prediction.probability.dtype == np.float32
    np.testing.assert_array_equal(prediction.mask, prediction.probability > 0.3)


def test_predict_takes_floats_in_0_1_as_well(model):
    before, after = random_image(1), random_image(2)
    from_floats = ctma.predict(before / 255, after / 255, model)
    np.testing.assert_allclose(
        from_floats.probability, ctma.predict(before, after, model).probability, atol=1e-5
    )


@pytest.mark.parametrize("size", [100, 130])
@pytest.mark.parametrize("distance", [0.02, 0.3, 0.45, 0.46, 0.55, 0.56, 1.2, 5.0])
def test_predict_brings_images_to_the_distance_the_network_was_trained_at(
    tiny_model, size, distance
):
    model = ctma.load_model(tiny_model)
    model.usage = model.usage.replace(ground_sample_distance=0.5)
    before, after = random_image(1, size), random_image(2, size)
    plain = ctma.predict(before, after, model).probability
    seen = ctma.predict(before, after, model, ground_sample_distance=distance).probability
    assert seen.shape == plain.shape
    assert np.array_equal(seen, plain) == (distance in {0.46, 0.55, 5.0})


@pytest.mark.slow
@pytest.mark.long
def test_large_images_are_predicted_in_windows(model):
    before, after = random_image(1, 1100), random_image(2, 1100)
    prediction = ctma.predict(before, after, model)
    assert prediction.probability.shape == (1100, 1100)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (np.zeros((64, 64, 3), np.uint8), np.zeros((64, 65, 3), np.uint8)),
        (np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.uint8)),
        (np.zeros((64, 64, 4), np.uint8), np.zeros((64, 64, 4), np.uint8)),
        (np.zeros((64, 64, 3), np.uint16), np.zeros((64, 64, 3), np.uint16)),
        (np.full((64, 64, 3), 2.0), np.full((64, 64, 3), 2.0)),
        (np.full((64, 64, 3), np.nan), np.full((64, 64, 3), np.nan)),
    ],
    ids=["unequal", "no bands", "four bands", "16 bits", "out of range", "nan"],
)
def test_arrays_that_cannot_be_used_are_refused(model, before, after):
    with pytest.raises(ImageError):
        ctma.predict(before, after, model)
    assert issubclass(ImageError, CtmaError)


def test_a_created_model_predicts_without_a_checkpoint():
    torch.manual_seed(0)
    model = ctma.create_model("ctma-s", video_len=2).eval()
    assert ctma.predict(random_image(1), random_image(2), model).mask.shape == (64, 64)


def test_a_network_in_training_mode_predicts_in_evaluation_mode_and_is_left_as_it_was(model):
    before, after = random_image(1), random_image(2)
    expected = ctma.predict(before, after, model).probability
    model.train()
    model.coarse_head.eval()  # as where a part is frozen
    state = {name: value.clone() for name, value in model.state_dict().items()}
    found = ctma.predict(before, after, model).probability
    np.testing.assert_array_equal(found, expected)
    assert (model.training, model.coarse_head.training) == (True, False)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    model.eval()


def test_predict_takes_paths_and_pictures_too(model, pair):
    expected = ctma.predict(*(read_image(path) for path in pair), model).probability
    for images in (pair, [str(path) for path in pair], [Image.open(path) for path in pair]):
        np.testing.assert_array_equal(ctma.predict(*images, model).probability, expected)


@pytest.mark.parametrize(
    ("images", "network", "expected"),
    [
        (torch.zeros(3, 64, 64), None, "an image of Tensor: expected an array"),
        (None, "ctma-xs", "ctma-xs: no such checkpoint; shipped by name: ctma-any"),
        (None, torch.nn.Conv2d(3, 1, 1), "`model` is a Conv2d, expected a predictor"),
    ],
    ids=["tensor", "name", "module"],
)
def test_what_predict_cannot_use_is_one_line(model, images, network, expected):
    image = random_image(1) if images is None else images
    with pytest.raises(CtmaError, match=expected):
        ctma.predict(image, image, model if network is None else network)


def test_pictures_are_read_by_the_same_rules_as_files(model, tmp_path):
    deep = tmp_path / "deep.png"
    Image.fromarray(np.full((64, 64), 900, np.uint16)).save(deep)
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(random_image(1)[:, :48].repeat(2, axis=0)).save(turned, exif=exif)
    with Image.open(deep) as picture, pytest.raises(ImageError, match=r"deep\.png: .* 8 bits"):
        ctma.predict(picture, picture, model)
    with Image.open(turned) as picture:
        found = ctma.predict(picture, picture, model)
    expected = ctma.predict(turned, turned, model)
    np.testing.assert_array_equal(found.probability, expected.probability)


def test_weights_of_half_precision_are_one_line():
    network = ctma.create_model("ctma-s", video_len=2).half()
    with pytest.raises(CtmaError, match=r"torch\.float16, expected float32: take model\.float"):
        ctma.predict(random_image(1), random_image(2), network)

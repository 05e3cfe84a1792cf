"""Settings are checked where they are made, by type and by range."""

import numpy as np
import pytest

import ctma
from ctma import Running, SceneSettings, Scoring, Tiling, Usage
from ctma.errors import SettingError, UnknownNameError
from support.images import random_image
from support.networks import MeanDifference


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (SceneSettings, "bands", "321"), (SceneSettings, "bands", (0, 1, 2)),
        (SceneSettings, "bands", ()), (SceneSettings, "scale", (1, 2, 3)),
        (SceneSettings, "tiling", 512), (SceneSettings, "tiling", {"window": 3}),
        (SceneSettings, "coregister", "perhaps"), (Running, "tta", "no"), (Running, "tta", 1),
        (Scoring, "threshold", "0.5"), (Scoring, "threshold", True),
        (SceneSettings, "min_area", "large"), (Scoring, "threshold", "half"),
        (Running, "precision", None), (Usage, "threshold", None), (Usage, "bands", "rgb"),
        (Tiling, "size", "large"), (Tiling, "size", 100.5), (Tiling, "margin", -1),
    ],
    ids=str,
)  # fmt: skip
def test_a_value_of_a_wrong_kind_is_refused_under_its_name(kind, name, value):
    with pytest.raises(SettingError, match=f"`{name}`"):
        kind(**{name: value})


def test_values_that_can_be_meant_are_brought_to_their_type():
    settings = SceneSettings(bands=[3, 2, 1], scale=[0, 3000], threshold=np.float32(0.25))
    assert settings == SceneSettings(bands=(3, 2, 1), scale=(0.0, 3000.0), threshold=0.25)
    assert hash(settings), "settings are values"


def test_settings_of_another_kind_are_refused(tiny_data):
    with pytest.raises(SettingError, match="settings 'crops': expected Scoring"):
        ctma.evaluate("ctma-s", tiny_data, scoring="crops")
    with pytest.raises(SettingError, match="expected SceneSettings"):
        ctma.predict_scene("a.tif", "b.tif", MeanDifference(), "out", {"min_area": 1})
    with pytest.raises(UnknownNameError, match="argument 'min_aera': did you mean min_area"):
        SceneSettings(min_aera=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [("threshold", 3), ("threshold", "half"), ("ground_sample_distance", "near")],
    ids=str,
)
def test_arguments_of_a_wrong_kind_are_refused_too(name, value):
    image = random_image(1)
    with pytest.raises(SettingError, match=f"`{name}` {value}"):
        ctma.predict(image, image, MeanDifference(), **{name: value})


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"workers": -1}], ids=str)
def test_counts_begin_where_they_make_sense(wrong):
    (name,) = wrong
    with pytest.raises(SettingError, match=f"`{name}` .*at least"):
        Scoring(**wrong)

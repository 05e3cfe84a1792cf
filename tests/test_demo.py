"""The demo, as the README promises it."""

import json

import numpy as np
from PIL import Image


def test_the_demo_trains_scores_predicts_and_draws(ctma, tmp_path):
    result = ctma("demo", "-o", tmp_path / "demo", timeout=900)
    record = json.loads((tmp_path / "demo/run/scores-test-whole.json").read_text())
    assert record["f1"] >= 0.80
    for name in (
        "run/best.safetensors",
        "prediction/mask/test_0000.png",
        "figures/test-whole.png",
        "scene/found/overview.png",
    ):
        assert str(tmp_path / "demo" / name) in result.stdout
    for name in ("probability.tif", "mask.tif", "changes.gpkg", "summary.json"):
        assert (tmp_path / "demo/scene/found" / name).is_file()
    found = json.loads((tmp_path / "demo/scene/found/summary.json").read_text())
    assert 5 <= found["changes"] <= 40
    assert np.asarray(Image.open(tmp_path / "demo/figures/test-whole.png")).std() > 20

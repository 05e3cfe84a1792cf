"""The demo, as the README promises it."""

import json

import numpy as np
import pytest
import rasterio
from PIL import Image

from ctma.data.synthetic import synthetic_pair
from ctma.demo import SCENE_SEED, SCENE_SIZE


@pytest.mark.long
@pytest.mark.slow
def test_the_demo_learns_what_the_readme_says_and_leaves_all_that_it_names(ctma, tmp_path):
    result = ctma("demo", "-o", tmp_path / "demo")
    record = json.loads((tmp_path / "demo/run/scores-best-data-test-whole.json").read_text())
    assert record["f1"] >= 0.80
    for name in (
        "run/best.safetensors",
        "prediction/mask/test_0000.png",
        "figures/data-test-whole.png",
        "scene/found/overview.png",
        "scene/found/review.html",
    ):
        assert str(tmp_path / "demo" / name) in result.stdout
    for name in ("probability.tif", "mask.tif", "changes.gpkg", "summary.json", "map.qgz"):
        assert (tmp_path / "demo/scene/found" / name).is_file()
    found = json.loads((tmp_path / "demo/scene/found/summary.json").read_text())
    assert 1 <= found["changes"] <= 40
    with rasterio.open(tmp_path / "demo/scene/found/mask.tif") as raster:
        claimed = raster.read(1) == 1
    _, _, change = synthetic_pair(SCENE_SIZE, SCENE_SEED)
    assert change[claimed].mean() > 0.7, "most of what is claimed is change"
    assert f"{claimed[change == 1].mean():.0%} of the changed pixels" in result.stdout
    assert np.asarray(Image.open(tmp_path / "demo/figures/data-test-whole.png")).std() > 20


def test_a_folder_that_is_there_is_refused_before_the_work(ctma, tmp_path):
    assert "exists already" in ctma("demo", "-o", tmp_path, code=2).stderr

"""The whole loop: a map, its review, labels, learning, a better map, and what became of it."""

import json

import numpy as np
import pytest
import rasterio
from scipy import ndimage

import ctma
from ctma import AdaptationSettings, LabelSettings, Learning, SceneSettings
from ctma.data.synthetic import synthetic_pair
from ctma.review.teaching import STILL
from support.browser import needs_chromium
from support.maps import data_of
from support.scenes import read, write_raster

SIDE = 512
SETTINGS = SceneSettings(ground_sample_distance=0.5, picture=False)


def f1(mask, truth):
    claimed = mask == 1
    return 2 * (claimed & truth).sum() / (claimed.sum() + truth.sum())


def rings_of(truth, found):
    """Boxes around the true changes that a map does not show, in columns and rows."""
    labels, _ = ndimage.label(truth)
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        if not found[labels == number].any():
            left, right, top, bottom = columns.start, columns.stop, rows.start, rows.stop
            yield [[left, top], [right, top], [right, bottom], [left, bottom]]


@needs_chromium
@pytest.mark.slow
@pytest.mark.long
def test_a_reviewer_teaches_the_network_a_place_in_minutes(visit, tmp_path):
    before, after, change = synthetic_pair(SIDE, 3)
    scene = [
        write_raster(tmp_path / f"{name}.tif", 255 - image.transpose(2, 0, 1))
        for name, image in (("before", before), ("after", after))
    ]
    truth = change == 1
    first = ctma.predict_scene(*scene, "ctma-lite", tmp_path / "OUT", SETTINGS)
    page = ctma.write_review(tmp_path / "OUT", order="learn").path
    opened = visit(page)
    entries = data_of(page)["changes"]
    assert any(entry["kind"] == STILL for entry in entries)
    for _ in entries:
        key = opened.page.evaluate("current")
        entry = next(one for one in entries if one["key"] == key)
        if entry["kind"] == STILL:
            # Where the map shows no change, a reviewer agrees, and draws what is missed below.
            opened.press("r")
            continue
        xs, ys = np.array(entry["outline"][0]).T.astype(int)
        area = truth[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        opened.press("r" if area.mean() > 0.4 else "w")
    for ring in rings_of(truth, read(first.mask) == 1):
        opened.page.evaluate(
            "(outline) => addDrawn([{ place: data.places[0].name, outline: [outline] }])",
            ring,
        )
    decisions = opened.download()
    (tmp_path / "decisions.geojson").write_text(json.dumps(decisions))
    assert {one["properties"].get("kind") for one in decisions["features"]} >= {STILL}
    ctma.apply_decisions(tmp_path / "OUT", tmp_path / "decisions.geojson")

    data = tmp_path / "DATA"
    made = ctma.prepare_reviewed(
        tmp_path / "OUT", tmp_path / "decisions.geojson", data, LabelSettings(tile=64)
    )
    assert made.splits["val"].changed > 0
    learning = Learning(steps=60, batch=4, crop=64, rate=2e-3)
    result = ctma.adapt("ctma-lite", data, tmp_path / "mine", AdaptationSettings(learning=learning))
    assert result.here.difference > 0
    second = ctma.predict_scene(*scene, result.checkpoint, tmp_path / "NEW", SETTINGS)
    assert f1(read(second.mask), truth) > f1(read(first.mask), truth) + 0.05
    compared = ctma.compare_maps(tmp_path / "OUT", tmp_path / "NEW", tmp_path / "DIFFERENCES")
    assert sum(compared.counts.values()) > 0
    with rasterio.open(second.mask) as raster:
        assert raster.shape == truth.shape

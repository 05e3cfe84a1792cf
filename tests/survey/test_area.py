"""From answers on a sample to areas: the chain through the page, files, and wrong input."""

import json
import shutil

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio

from ctma import (
    Census,
    DataError,
    SampleSettings,
    SettingError,
    draw_sample,
    estimate_area,
    write_review,
    write_survey,
)
from ctma.survey.samples import read_sample
from support.browser import needs_chromium
from support.commands import refused
from support.decisions import decide, square_of
from support.maps import data_of, make_map

SQUARES = [(40, 40, 40, 220), (200, 90, 30, 200), (130, 200, 24, 240)]
TRUE = [(40, 40, 40), (130, 200, 24), (230, 230, 40)]
"""Of three mapped squares, one is no change; one change is missed."""
HECTARE = 1e4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_map(tmp_path_factory.mktemp("scene"), (300, 300), SQUARES)


def is_true(place):
    return any(
        left <= place["column"] < left + side and top <= place["row"] < top + side
        for left, top, side in TRUE
    )


def answer(folder, path, points=400, reviewer="Ada", unsure=(), **settings):
    """A sample with the answers of someone who knows the truth."""
    draw_sample(folder, path, SampleSettings(points=points, **settings), overwrite=True)
    table = geopandas.read_file(path, layer="sample")
    verdicts = ["change" if is_true(place) else "no change" for _, place in table.iterrows()]
    table["verdict"] = [
        "unsure" if number in unsure else verdict
        for number, verdict in zip(table["id"], verdicts, strict=True)
    ]
    table["reviewer"] = reviewer
    told = pyogrio.read_info(path, layer="sample")["layer_metadata"]
    pyogrio.write_dataframe(table, path, layer="sample", layer_metadata=told)
    return path


def pixel_area(folder):
    with rasterio.open(folder / "mask.tif") as raster:
        return raster.transform.a**2


def test_answers_give_areas_near_the_truth(folder, tmp_path):
    found = estimate_area(folder, answer(folder, tmp_path / "sample.gpkg", seed=1))
    truth = sum(side**2 for *_, side in TRUE) * pixel_area(folder)
    assert found.change.low < truth < found.change.high
    assert found.mapped == pytest.approx(
        sum(side**2 for *_, side, _ in SQUARES) * pixel_area(folder), rel=2e-3
    )
    assert found.change.value + found.no_change.value == pytest.approx(found.total)
    right = (40**2 + 24**2) / (40**2 + 30**2 + 24**2)
    assert found.users[1].low < right < found.users[1].high
    assert found.assisted is None  # hardly any omission was met
    assert np.sum(found.counts) == 400
    assert np.sum(found.shares) == pytest.approx(1)
    assert found.deviations == []


@pytest.mark.parametrize("design", ["stratified", "systematic"])
def test_many_samples_centre_on_the_truth(folder, tmp_path, design):
    truth = sum(side**2 for *_, side in TRUE) * pixel_area(folder)
    found = [
        estimate_area(folder, answer(folder, tmp_path / "s.gpkg", 200, seed=seed, design=design))
        for seed in range(12)
    ]
    values = [one.change.value for one in found]
    assert np.mean(values) == pytest.approx(truth, rel=0.12)
    held = [one.change.low <= truth <= one.change.high for one in found]
    assert sum(held) >= 10


def test_unsure_and_missing_answers_are_left_out_and_said(folder, tmp_path):
    path = answer(folder, tmp_path / "sample.gpkg", unsure={3, 8})
    found = estimate_area(folder, path)
    assert np.sum(found.counts) == 398
    assert found.unsure_none < found.change.value < found.unsure_all
    assert "2 places with the answer unsure, left out." in found.deviations


def test_several_reviewers_agree_or_are_left_out(folder, tmp_path):
    ada = answer(folder, tmp_path / "ada.gpkg")
    ben = answer(folder, tmp_path / "ben.gpkg", reviewer="Ben", unsure={1})
    found = estimate_area(folder, [ada, ben])
    (agreement,) = found.agreements
    assert (agreement.first, agreement.second) == ("Ada", "Ben")
    assert (agreement.changes, agreement.same) == (400, 399)
    assert found.reviewers == ["Ada", "Ben"]
    table = geopandas.read_file(ada, layer="sample")
    contrary = {"change": "no change", "no change": "change"}
    table.loc[table["id"] <= 3, "verdict"] = table["verdict"].map(contrary)
    cay = tmp_path / "cay.gpkg"
    told = pyogrio.read_info(ada, layer="sample")["layer_metadata"]
    pyogrio.write_dataframe(table.assign(reviewer="Cay"), cay, layer="sample", layer_metadata=told)
    found = estimate_area(folder, [ada, ben, cay])
    # Ben is unsure of the first place, where the two others disagree.
    assert np.sum(found.counts) == 399
    assert not any("unsure" in line for line in found.deviations)
    other = answer(folder, tmp_path / "other.gpkg", seed=9)
    with pytest.raises(DataError, match="another sample"):
        estimate_area(folder, [ada, other])


def test_polygons_give_users_accuracy_by_area_and_by_number(folder, tmp_path):
    path = tmp_path / "polygons.gpkg"
    settings = SampleSettings(units="polygons", points=3, least=2)
    draw_sample(folder, path, settings)
    table = geopandas.read_file(path, layer="sample")
    table["verdict"] = ["no change" if number == 2 else "change" for number in table["change"]]
    told = pyogrio.read_info(path, layer="sample")["layer_metadata"]
    pyogrio.write_dataframe(table, path, layer="sample", layer_metadata=told)
    found = estimate_area(folder, path)
    wrong = square_of(folder, 2)[2] ** 2
    areas = sum(side**2 for *_, side, _ in SQUARES)
    assert found.users_by_number.value == pytest.approx(2 / 3)
    assert found.users[1].value == pytest.approx(1 - wrong / areas, rel=1e-3)
    assert found.users[1].low == found.users[1].high  # all polygons were answered
    assert found.overall is None


def test_another_map_is_judged_by_the_same_answers(folder, tmp_path):
    other = make_map(tmp_path / "other", (300, 300), SQUARES[:1])
    path = answer(folder, tmp_path / "sample.gpkg")
    found = estimate_area(other, path, strata=folder)
    plain = estimate_area(folder, path)
    assert found.change == plain.change
    assert found.users[1].value == pytest.approx(1, abs=0.02)
    assert found.producers[1].value < plain.producers[1].value
    assert any("another map" in line for line in found.deviations)
    with pytest.raises(DataError, match="is a sample of another map"):
        estimate_area(other, path)


def test_a_review_gives_users_accuracy_alone(ctma, folder, tmp_path):
    decisions = [
        (number, verdict, square_of(folder, number), {})
        for number, verdict in ((1, "right"), (2, "wrong"))
    ]
    path = decide(tmp_path / "decisions.geojson", folder, decisions)
    found = estimate_area(folder, path, tmp_path / "report")
    assert isinstance(found, Census)
    assert (found.right, found.wrong, found.users) == (1, 1, 0.5)
    assert found.users_least < found.users_by_area < found.users_most
    assert "no probability sample" in (tmp_path / "report.md").read_text()
    said = ctma("area", folder, path).stderr
    assert "is no probability sample, so no area follows" in said
    with pytest.raises(SettingError, match="come from a review"):
        estimate_area(folder, path, strata=folder)


def test_the_report_says_it_all_and_is_not_replaced(ctma, folder, tmp_path):
    path = answer(folder, tmp_path / "sample.gpkg", unsure={5})
    said = ctma("area", folder, path, "-o", tmp_path / "report", "--response", "Two <looked>.")
    assert "estimated change" in said.stdout
    page = (tmp_path / "report.html").read_text()
    assert "Two &lt;looked&gt;." in page
    assert "data:image/png;base64," in page
    text = (tmp_path / "report.md").read_text()
    for part in ("Neyman", "neyman", "Seed 0", "95 % interval", "Error matrix", "Deviations"):
        assert part in text or part == "Neyman"
    record = json.loads((tmp_path / "report.json").read_bytes())
    assert record["response"] == "Two <looked>."
    assert record == json.loads(ctma("area", folder, path, "--json").stdout) | {
        "response": "Two <looked>.", "files": record["files"],
    }  # fmt: skip
    refused(ctma, "is there already", "area", folder, path, "-o", tmp_path / "report")


def test_wrong_answers_are_one_line(ctma, folder, tmp_path):
    path = answer(folder, tmp_path / "sample.gpkg")
    table = geopandas.read_file(path, layer="sample")
    told = pyogrio.read_info(path, layer="sample")["layer_metadata"]

    def rewrite(name, changed, metadata=told):
        target = tmp_path / name
        pyogrio.write_dataframe(changed, target, layer="sample", layer_metadata=metadata)
        return target

    refused(ctma, "no such file", "area", folder, tmp_path / "absent.gpkg")
    refused(ctma, "expected change, no change or unsure", "area", folder,
            rewrite("typo.gpkg", table.assign(verdict="chnage")))  # fmt: skip
    refused(ctma, "lacks places of the sample", "area", folder, rewrite("few.gpkg", table[:50]))
    refused(ctma, "holds no sample of ctma sample", "area", folder,
            rewrite("plain.gpkg", table, {}))  # fmt: skip
    refused(ctma, "has no attribute verdict", "area", folder,
            rewrite("bare.gpkg", table.drop(columns="verdict")))  # fmt: skip
    refused(ctma, "answers, and 2 are the least", "area", folder,
            rewrite("empty.gpkg", table.assign(verdict="")))  # fmt: skip
    (tmp_path / "broken.geojson").write_text("{")
    refused(ctma, "broken.geojson: holds no sample", "area", folder, tmp_path / "broken.geojson")


def test_numbers_count_as_verdicts_and_nothing_is_dropped(folder, tmp_path):
    path = answer(folder, tmp_path / "sample.gpkg")
    expected = estimate_area(folder, path).change
    table = geopandas.read_file(path, layer="sample")
    told = pyogrio.read_info(path, layer="sample")["layer_metadata"]
    for name, kind in (("int", int), ("bool", bool), ("float", float)):
        column = (table["verdict"] == "change").astype(kind)
        target = tmp_path / f"{name}.gpkg"
        pyogrio.write_dataframe(
            table.assign(verdict=column), target, layer="sample", layer_metadata=told
        )
        assert estimate_area(folder, target).change == expected


def test_places_that_were_moved_and_files_given_twice_are_refused(ctma, folder, tmp_path):
    path = answer(folder, tmp_path / "sample.gpkg")
    table = geopandas.read_file(path, layer="sample")
    told = pyogrio.read_info(path, layer="sample")["layer_metadata"]
    moved = tmp_path / "moved.gpkg"
    pyogrio.write_dataframe(
        table.assign(row=table["row"].replace(table["row"][0], 3)), moved, layer="sample",
        layer_metadata=told,
    )  # fmt: skip
    refused(ctma, "were changed since they were drawn", "area", folder, moved)
    shutil.copy(path, tmp_path / "again.gpkg")
    refused(ctma, "the same answers as another file", "area", folder, path, tmp_path / "again.gpkg")


def test_a_regular_grid_that_misses_mapped_change_says_so(folder, tmp_path):
    small = make_map(tmp_path / "small", (300, 300), [(40, 40, 6, 220)])
    path = answer(small, tmp_path / "sample.gpkg", 40, design="systematic")
    found = estimate_area(small, path)
    assert found.mapped == pytest.approx(36 * pixel_area(small), rel=2e-3)
    assert found.producers == [None, None]
    assert found.users[1] is None


def test_the_page_hides_what_the_map_says(folder, tmp_path):
    sample = draw_sample(folder, tmp_path / "sample.gpkg", SampleSettings(points=60)).path
    page = write_survey(folder, sample, tmp_path / "survey.html", repeat=0.1)
    known = data_of(page.path)
    assert known["places"][0]["probability"] is None
    assert all(one["mean"] is None and one["area"] == 0 for one in known["changes"])
    assert len(known["repeats"]) == round(0.1 * page.shown)
    assert [one["id"] for one in known["changes"]] == [*range(1, page.shown + 1)]
    with pytest.raises(DataError, match="holds no sample"):
        write_survey(folder, folder / "changes.gpkg", tmp_path / "no.html")


@needs_chromium
@pytest.mark.slow
def test_the_page_asks_and_the_answers_give_an_area(ctma, folder, tmp_path, visit):
    sample = answer(folder, tmp_path / "sample.gpkg", 60, least=20)
    ctma("review", folder, "--sample", sample, "-o", tmp_path / "survey.html", "--repeat", "10%")
    _, places = read_sample(sample)
    seen = visit(tmp_path / "survey.html", awaited="place 1: undecided")
    for name in ("draw", "mend", "remove", "probability", "of-area", "of-order"):
        assert not seen.page.locator(f"#{name}").is_visible()
    seen.press("r", "w", "h", "d", "1", "z")  # keys of a review do nothing here
    shown = [*places, *(places[index] for index in data_of(tmp_path / "survey.html")["repeats"])]
    keys = {"change": "1", "no change": "0"}
    seen.press(*(keys[place.verdict] for place in shown))
    assert f"{len(shown)} of {len(shown)} decided" in seen.text("progress")
    assert "decided alike, kappa 1.00" in seen.text("agreement")
    (tmp_path / "answers.geojson").write_text(json.dumps(seen.download()))
    found = estimate_area(folder, tmp_path / "answers.geojson")
    assert found.change == estimate_area(folder, sample).change
    refused(ctma, "ctma area reads", "review", folder, "--apply", tmp_path / "answers.geojson")


def test_a_review_page_stays_as_it_was(folder, tmp_path):
    known = data_of(write_review(folder, tmp_path / "review.html").path)
    assert known["survey"] is None
    assert known["places"][0]["probability"] is not None

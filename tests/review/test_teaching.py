"""The places whose labels teach most: doubtful changes first, spread out, with still places."""

import numpy as np
from shapely.geometry import box

import ctma
from ctma import LabelSettings, prepare_reviewed
from ctma.review.changes import LEAST_SIDE, MappedChange, Place, ReviewedMap
from ctma.review.decisions import read_decisions
from ctma.review.maps import open_map
from ctma.review.teaching import STILL, rank_by_teaching
from ctma.scene.strips import NO_DATA
from support.decisions import decide, fingerprint_of
from support.maps import data_of, make_map

SIDE = LEAST_SIDE


def reviewed(stored, changes=()):
    """A map of one place; changes are (column, row, side, mean probability)."""
    height, width = stored.shape
    place = Place("", width, height, None, lambda: (None, None), None, lambda: stored)
    mapped = [
        MappedChange(0, number, 9.0, mean, box(column, row, column + side, row + side))
        for number, (column, row, side, mean) in enumerate(changes, start=1)
    ]
    return ReviewedMap("m", "f", 0.5, "m²", [place], mapped)


def test_the_doubtful_come_first_and_still_places_between():
    stored = np.zeros((4 * SIDE, 4 * SIDE), np.uint8)
    changes = []
    for index, value in enumerate((125, 240, 60, 200, 180, 245)):
        row, column = divmod(2 * index, 4)
        top, left = row * SIDE, column * SIDE
        stored[top : top + SIDE, left : left + SIDE] = value
        changes.append((left + 20, top + 20, 10, value / 250))
    ranked = rank_by_teaching(reviewed(stored, changes))
    assert [change.kind == STILL for change in ranked[:8]] == [False] * 3 + [True] + [False] * 3 + [
        True
    ]
    assert ranked[0].id == 1
    numbers = [change.id for change in ranked]
    assert len({*numbers}) == len(numbers)
    assert {change.id for change in ranked if change.kind != STILL} == {*range(1, 7)}
    assert min(change.id for change in ranked if change.kind == STILL) == 7
    assert len(ranked) == 6 + 10


def test_changes_at_the_lower_edge_are_listed_where_the_picture_was_reduced():
    # 7,707 rows at 1,536 are 1,536 rows of 5.018, and 500 columns are 100 of 5.
    stored = np.zeros((1536, 100), np.uint8)
    place = Place("", 500, 7707, None, lambda: (None, None), None, lambda: stored)
    changes = [
        MappedChange(0, number, 9.0, 0.6, box(20, row, 29, row + 9))
        for number, row in ((1, 30), (2, 7690))
    ]
    ranked = rank_by_teaching(ReviewedMap("m", "f", 0.5, "m²", [place], changes))
    assert {change.id for change in ranked if change.kind != STILL} == {1, 2}


def test_places_are_spread_over_the_scene():
    stored = np.zeros((8 * SIDE, 8 * SIDE), np.uint8)
    stored[: 2 * SIDE, : 2 * SIDE] = 120
    stored[6 * SIDE :, 6 * SIDE :] = 40
    first = rank_by_teaching(reviewed(stored))[:2]
    centres = [change.outline.centroid for change in first]
    assert centres[0].distance(centres[1]) > 6 * SIDE


def test_places_without_data_are_left_out():
    stored = np.full((3 * SIDE, 3 * SIDE), NO_DATA, np.uint8)
    stored[:SIDE, :SIDE] = 3
    ranked = rank_by_teaching(reviewed(stored))
    assert [change.outline.bounds for change in ranked] == [(0, 0, SIDE, SIDE)]


def test_a_page_to_learn_from_lists_still_places_and_their_verdicts_are_labels(tmp_path):
    folder = make_map(tmp_path, (700, 700), [(60, 60, 40, 220), (500, 520, 44, 200)])
    page = ctma.write_review(folder, order="learn")
    entries = data_of(page.path)["changes"]
    still = [entry for entry in entries if entry["kind"] == STILL]
    assert (page.changes, len(still)) == (2, len(entries) - 2)
    assert page.shown == len(entries)
    xs, ys = np.array(still[0]["outline"][0]).T
    assert xs.max() - xs.min() <= SIDE
    cell = (xs.min(), ys.min(), xs.max() - xs.min())
    decisions = [
        (1, "right", (60, 60, 40), {}),
        (still[0]["id"], "right", cell, {"kind": STILL}),
        (still[1]["id"], "wrong", (300, 10, 100), {"kind": STILL}),
    ]
    file = decide(tmp_path / "d.geojson", folder, decisions)
    assert [one.kind for one in read_decisions(file, fingerprint_of(folder))] == ["", STILL, STILL]
    applied = ctma.apply_decisions(folder, file)
    assert applied.counts["right"] == 1
    assert applied.counts["wrong"] == 0
    made = prepare_reviewed(folder, file, tmp_path / "data", LabelSettings(holdout=0))
    shown = made.splits["train"].labelled
    alone = decide(tmp_path / "alone.geojson", folder, decisions[:1])
    less = prepare_reviewed(folder, alone, tmp_path / "less", LabelSettings(holdout=0))
    assert shown - less.splits["train"].labelled == cell[2] * (ys.max() - ys.min())


def test_a_note_or_a_repeat_disputes_no_still_place(tmp_path):
    folder = make_map(tmp_path, (700, 700), [(60, 60, 40, 220), (500, 520, 44, 200)])
    cell, labelled = (160, 0, 160), []
    for more in ([], [(9, None, cell, {"kind": STILL, "note": "a field"})],
                 [(9, "unsure", cell, {"kind": STILL, "repeat": True})]):  # fmt: skip
        decisions = [(1, "right", (60, 60, 40), {}), (9, "right", cell, {"kind": STILL}), *more]
        file = decide(tmp_path / f"{len(labelled)}.geojson", folder, decisions)
        output = tmp_path / f"data{len(labelled)}"
        made = prepare_reviewed(folder, file, output, LabelSettings(holdout=0))
        labelled.append(made.splits["train"].labelled)
    assert len({*labelled}) == 1


def test_a_disputed_still_place_has_no_label(tmp_path):
    folder = make_map(tmp_path, (700, 700), [(60, 60, 40, 220), (500, 520, 44, 200)])
    cell = (160, 0, 160)
    files = [
        decide(tmp_path / f"{verdict}.geojson", folder, [
            (1, "right", (60, 60, 40), {}), (9, verdict, cell, {"kind": STILL}),
        ], reviewer=verdict)
        for verdict in ("right", "wrong")
    ]  # fmt: skip
    made = [
        prepare_reviewed(folder, chosen, tmp_path / str(number), LabelSettings(holdout=0))
        for number, chosen in enumerate((files[:1], files))
    ]
    labelled = [one.splits["train"].labelled for one in made]
    assert labelled[0] > labelled[1]


def test_pairs_of_images_have_places_to_learn_from_too(tmp_path):
    from support.images import random_image, write_pair

    for name in ("one", "two"):
        write_pair(tmp_path, name, random_image(1, 400), random_image(2, 400))
    ctma.predict_files(tmp_path / "A", tmp_path / "B", "ctma-lite", tmp_path / "out")
    with open_map(tmp_path / "out") as opened:
        ranked = rank_by_teaching(opened)
    assert {change.place for change in ranked} == {0, 1}
    assert any(change.kind == STILL for change in ranked)

"""The review page in a real browser: looking, deciding, drawing, by pointer and by keys alone."""

import json
import re

import numpy as np
import pytest

import ctma as package
from support.browser import needs_chromium
from support.images import write_pair
from support.maps import Brighter, make_map, paint, paint_many
from support.scenes import read

pytestmark = [needs_chromium, pytest.mark.slow]
SIDE = 8


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A map of 12 changes."""
    return make_map(tmp_path_factory.mktemp("scene"), *paint_many(4, 3))


@pytest.fixture(scope="module")
def page_file(scene):
    return package.write_review(scene, repeat=0.25).path


def test_the_page_opens_from_disk_and_asks_nobody_for_anything(visit, page_file):
    seen = visit(page_file)
    assert [url for url in seen.asked if not url.startswith("data:")] == [page_file.as_uri()]
    assert "12 changes. 0 of 15 decided" in seen.text("counted") + ". " + seen.text("progress")


def test_swipe_blink_and_fade_show_both_dates(visit, page_file):
    seen = visit(page_file)
    seen.press("o")  # no outlines, which would cover the colours
    centre = (0.48, 0.48)
    after = seen.colour(0.52, 0.52)
    before = seen.colour(*centre)
    assert max(before) < 90 < 130 < min(after)
    # Drag the handle to the left: the centre then shows the date after.
    area = seen.page.locator("#canvas").bounding_box()
    middle = area["y"] + area["height"] / 2
    seen.page.mouse.move(area["x"] + area["width"] / 2, middle)
    seen.page.mouse.down()
    seen.page.mouse.move(area["x"] + area["width"] / 4, middle, steps=4)
    seen.page.mouse.up()
    assert min(seen.colour(*centre)) > 130
    assert float(seen.page.locator("#slider").input_value()) == pytest.approx(25, abs=1)
    seen.page.keyboard.down("b")
    assert max(seen.colour(*centre)) < 90
    seen.page.keyboard.up("b")
    assert min(seen.colour(*centre)) > 130
    seen.press("f")
    faded = np.array(seen.colour(*centre))
    assert np.abs(faded - (np.array(before) + after) / 2).max() < 25
    seen.press("s")
    assert seen.page.locator("#swipe").get_attribute("aria-pressed") == "true"


def test_the_probability_and_the_outlines_go_on_and_off(visit, page_file):
    seen = visit(page_file)
    seen.settle()
    plain = seen.page.screenshot()
    for key, name in (("o", "outlines"), ("h", "probability")):
        former = seen.page.locator(f"#{name}").get_attribute("aria-pressed")
        seen.press(key)
        assert seen.page.locator(f"#{name}").get_attribute("aria-pressed") != former
        seen.settle()
        assert seen.page.screenshot() != plain
        seen.press(key)


def test_a_verdict_is_one_key_and_survives_a_reload(visit, page_file):
    seen = visit(page_file)
    first = seen.text("current").split(":")[0]
    seen.press("r", "w", "u")
    assert "3 of 15 decided" in seen.text("progress")
    seen.page.reload()
    seen.await_text("current", "change")
    assert "3 of 15 decided" in seen.text("progress")
    row = seen.page.locator(f"#list button[aria-label^='{first}:']").first
    assert "right" in row.get_attribute("aria-label")
    assert seen.text("current").split(":")[0] != first  # goes on with what is undecided


def test_undo_takes_verdicts_notes_and_drawings_back(visit, page_file):
    seen = visit(page_file)
    seen.press("r", "z")
    assert "0 of 15 decided" in seen.text("progress")
    seen.press("t")
    seen.page.keyboard.type("rwu is no verdict here")
    seen.press("Escape")
    assert "0 of 15 decided" in seen.text("progress")
    assert seen.page.locator("#note").input_value() == "rwu is no verdict here"
    seen.press("z")
    assert seen.page.locator("#note").input_value() == ""
    seen.press("d", "Space", "Shift+ArrowRight", "Space", "Shift+ArrowDown", "Space", "Enter")
    assert "1 drawn" in seen.text("progress")
    seen.press("z")
    assert "0 drawn" in seen.text("progress")
    seen.press("z")
    assert seen.text("said") == "There is nothing to undo."


def test_keys_work_while_anything_is_open_and_help_has_a_button(visit, page_file):
    seen = visit(page_file)
    assert not seen.page.locator("#keys").is_visible()
    seen.press("?")
    assert seen.page.locator("#keys").is_visible()
    seen.press("r", "n", "p")
    assert "1 of 15 decided" in seen.text("progress")
    seen.page.get_by_role("button", name="Keys").click()
    assert not seen.page.locator("#keys").is_visible()
    for control in seen.page.locator("button, input, select, textarea, canvas").all():
        name = control.evaluate(
            "one => one.getAttribute('aria-label') || one.innerText || one.labels?.[0]?.innerText"
        )
        assert name, control.evaluate("one => one.outerHTML")


def test_every_button_has_the_key_it_names(visit, page_file):
    seen = visit(page_file)
    buttons = seen.page.locator("button:has(kbd)").all()
    assert len(buttons) >= 18
    for button in buttons:
        key = button.locator("kbd").inner_text().lower()
        assert key == (button.get_attribute("aria-keyshortcuts") or "b")


def test_filters_and_orders_change_the_list(visit, page_file):
    seen = visit(page_file)

    def areas_and_probabilities():
        rows = seen.page.locator("#list button").all_inner_texts()
        return [float(row.split(", ")[2]) for row in rows[:12]]

    doubts = [abs(value - 0.5) for value in areas_and_probabilities()]
    assert doubts == sorted(doubts)
    seen.page.locator("#order").select_option("place")
    seen.page.locator("#least-probability").fill("0.9")
    assert min(areas_and_probabilities()[1:]) >= 0.9  # what is shown stays in the list
    seen.page.locator("#least-probability").fill("0")
    seen.press("Escape", "w")
    seen.page.locator("#verdict").select_option("wrong")
    assert seen.page.locator("#list button").count() <= 2


def test_what_was_decided_comes_back_and_is_applied(visit, page_file, scene, tmp_path, ctma):
    seen = visit(page_file)
    seen.page.locator("#reviewer").fill("Ada")
    seen.press("Escape")
    names = []
    for verdict in "rwu":
        names.append(int(seen.text("current").split(":")[0].split()[1]))
        seen.press(verdict)
    # Draw a square of 8 x 8 screen steps by keys alone, around the place of the change.
    seen.press("d", "Space", *["Shift+ArrowRight"] * 2, "Space", *["Shift+ArrowDown"] * 2, "Space")
    seen.press("Enter")
    decided = seen.download()
    assert decided["type"] == "FeatureCollection"
    for feature in decided["features"]:
        ring = np.array(feature["geometry"]["coordinates"][0])
        area = (ring[:-1, 0] * ring[1:, 1] - ring[1:, 0] * ring[:-1, 1]).sum() / 2
        assert (ring[0] == ring[-1]).all()
        assert area > 0  # counterclockwise
        assert np.abs(ring).max() < 181
    told = {one["properties"]["id"]: one["properties"] for one in decided["features"]}
    assert [told[name]["verdict"] for name in names] == ["right", "wrong", "unsure"]
    assert told[None]["verdict"] == "missed"
    assert {one["reviewer"] for one in told.values()} == {"Ada"}
    assert re.match(r"\d{4}-\d\d-\d\dT", told[names[0]]["time"])
    file = tmp_path / "decisions.geojson"
    file.write_text(json.dumps(decided))
    other = visit(page_file)
    other.page.locator("#file").set_input_files(file)
    other.await_text("said", "taken")
    assert "3 of 15 decided, 1 drawn" in other.text("progress")
    again = other.download()
    for one, same in zip(decided["features"], again["features"], strict=True):
        assert one["properties"] == same["properties"]
        coordinates = (np.array(it["geometry"]["coordinates"][0]) for it in (one, same))
        assert np.allclose(*coordinates, atol=2e-9)
    said = ctma("review", scene, "--apply", file).stdout
    assert "1 right, 1 wrong, 1 unsure, 9 undecided, 1 missed" in said
    drawn = (read(scene / "accepted.tif") == 1) & (read(scene / "mask.tif") == 0)
    assert 10 < drawn.sum() < 400


def test_an_outline_is_mended_by_dragging_a_corner(visit, page_file):
    seen = visit(page_file)
    seen.press("m")
    area = seen.page.locator("#canvas").bounding_box()
    corner = seen.page.evaluate("toScreen(tool.points[0])")
    x, y = area["x"] + corner[0], area["y"] + corner[1]
    seen.page.mouse.move(x, y)
    seen.page.mouse.down()
    seen.page.mouse.move(x - 40, y - 30, steps=3)
    seen.page.mouse.up()
    seen.press("Enter")
    (feature,) = seen.download()["features"]
    assert (feature["properties"]["mended"], feature["properties"]["verdict"]) == (True, None)
    assert len(feature["geometry"]["coordinates"][0]) == 5


def test_changes_shown_twice_say_how_far_the_reviewer_agrees_with_himself(visit, page_file):
    seen = visit(page_file)
    seen.press(*"r" * 12)
    assert not seen.page.locator("#agreement").is_visible()
    seen.press("r", "w", "r")
    assert "15 of 15 decided" in seen.text("progress")
    assert "Shown twice: 2 of 3 decided alike" in seen.text("agreement")
    repeats = [one for one in seen.download()["features"] if one["properties"]["repeat"]]
    assert len(repeats) == 3


def test_decisions_of_another_map_and_other_files_are_refused(visit, page_file, tmp_path):
    seen = visit(page_file)
    for text, said in (
        ("{", "cannot be taken in"),
        ('{"type": "FeatureCollection"}', "holds no decisions"),
        ('{"type": "FeatureCollection", "ctma": {"fingerprint": "x"}}', "another map"),
    ):
        (tmp_path / "x.geojson").write_text(text)
        seen.page.locator("#file").set_input_files(tmp_path / "x.geojson")
        seen.await_text("warning", said)


def test_two_hundred_verdicts_take_two_hundred_keys_and_none_is_lost(visit, tmp_path):
    many = make_map(tmp_path, *paint_many(25, 20))
    written = package.write_review(many)
    assert (written.changes, written.shown) == (500, 500)
    assert written.total_bytes - written.picture_bytes < 2e6
    seen = visit(written.path)
    seen.press(*"rwu" * 66, "r", "r")
    assert "200 of 500 decided" in seen.text("progress")
    rows = seen.page.locator("#list button")
    assert rows.count() == 500
    rows.last.click()
    assert rows.last.get_attribute("aria-current") == "true"
    seen.page.reload()
    seen.await_text("current", "change")
    assert "200 of 500 decided" in seen.text("progress")


def test_the_page_fits_a_phone_and_a_dark_room(visit, page_file):
    for width, scheme in ((390, "light"), (800, "dark"), (1400, "light")):
        seen = visit(page_file, width, 844, color_scheme=scheme)
        wide = seen.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width
        right = seen.page.locator("#right").bounding_box()
        assert right["y"] + right["height"] <= 844
        ground = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


HOSTILE = "</script><img src=x onerror=alert(1)>&quot;'`${1}.tif"


def test_hostile_names_and_notes_stay_text(visit, tmp_path):
    names = (HOSTILE.replace("/", "\u2215"), "<!--<script>.tif")
    attacked = make_map(tmp_path, *paint_many(2, 2), names)
    text = package.write_review(attacked).path.read_text()
    assert text.count("</script>") == 2
    seen = visit(attacked / "review.html")
    assert seen.page.locator("img").count() == 0
    assert seen.text("title").startswith("<\u2215script>")
    note = "</textarea><script>document.title='hacked'</script>"
    seen.press("t")
    seen.page.keyboard.insert_text(note)
    seen.press("Escape", "r")
    assert seen.download()["features"][0]["properties"]["note"] == note
    assert "hacked" not in seen.page.title()


def test_pairs_of_images_are_reviewed_in_pixels(visit, tmp_path):
    for name, squares in (("one", [(10, 12, 10, 200)]), ("two", [(60, 20, 12, 180)])):
        before, after = (pixels.transpose(1, 2, 0) for pixels in paint((100, 90), squares))
        write_pair(tmp_path, name, before, after)
    package.predict_files(
        tmp_path / "A", tmp_path / "B", Brighter().eval(), tmp_path / "OUT", protocol="whole"
    )
    written = package.write_review(tmp_path / "OUT", order="place")
    seen = visit(written.path)
    assert seen.text("current").startswith("one, change 1: 100 pixels")
    seen.press("r")
    assert seen.text("current").startswith("two, change 1: 144 pixels")
    (decided,) = seen.download()["features"]
    ring = np.array(decided["geometry"]["coordinates"][0])
    assert (ring.min(axis=0).tolist(), ring.max(axis=0).tolist()) == ([10, 12], [20, 22])
    assert decided["properties"]["place"] == "one"


def test_pages_of_one_map_share_decisions_and_each_gives_its_own(visit, tmp_path):
    for name, squares in (("a", []), ("b", [(10, 12, 10, 200)]), ("c", [(60, 20, 20, 180)])):
        before, after = (pixels.transpose(1, 2, 0) for pixels in paint((100, 90), squares))
        write_pair(tmp_path, name, before, after)
    out = tmp_path / "OUT"
    package.predict_files(tmp_path / "A", tmp_path / "B", Brighter().eval(), out, protocol="whole")
    small = package.write_review(out, out / "small.html", most=1, order="area").path
    large = package.write_review(out, out / "large.html", order="area").path
    seen = visit(small)
    seen.press("r")
    outline = "[[1, 1], [9, 1], [9, 9]]"
    seen.page.evaluate(f"addDrawn([{{ place: data.places[0].name, outline: [{outline}] }}])")
    assert [one["properties"]["place"] for one in seen.download()["features"]] == ["c", "c"]
    seen.page.goto(large.as_uri())
    seen.await_text("current", "change")
    seen.press("r")
    decided = seen.download()["features"]
    assert sorted(one["properties"]["place"] for one in decided) == ["b", "c", "c"]
    assert not seen.page.locator("#warning").is_visible()
    seen.page.goto(small.as_uri())
    seen.await_text("current", "change")
    assert len(seen.download()["features"]) == 2
    assert "does not show: 1." in seen.text("warning")


def test_two_tabs_of_a_page_keep_the_decisions_of_both(visit, page_file):
    seen = visit(page_file)
    other = seen.page.context.new_page()
    other.goto(page_file.as_uri())
    other.keyboard.press("r")
    seen.await_text("progress", "1 of 15")
    seen.press("n", "r")
    assert len(seen.download()["features"]) == 2


def test_a_note_in_a_file_replaces_no_verdict(visit, page_file, tmp_path):
    seen = visit(page_file)
    seen.press("t")
    seen.page.keyboard.insert_text("a shed")
    file = tmp_path / "ben.geojson"
    seen.press("Escape")
    file.write_text(json.dumps(seen.download()))
    mine = visit(page_file)
    mine.press("w", "p")
    mine.page.locator("#file").set_input_files(file)
    mine.await_text("said", "1 decisions taken in")
    (decided,) = mine.download()["features"]
    told = decided["properties"]
    assert (told["verdict"], told["note"]) == ("wrong", "a shed")


def test_on_a_phone_the_picture_stays_while_one_decides(visit, page_file):
    seen = visit(page_file, 390, 844, has_touch=True)
    top = seen.page.locator("#canvas").bounding_box()["y"]
    for _ in range(8):
        seen.page.locator("#right").tap()
    assert "8 of 15 decided" in seen.text("progress")
    assert seen.page.locator("#canvas").bounding_box()["y"] == top
    assert seen.page.evaluate("scrollY") == 0


def test_nothing_takes_an_outline_away_that_is_being_drawn(visit, page_file):
    seen = visit(page_file)
    seen.press("r", "d", "Space", "Shift+ArrowRight", "Space", "Shift+ArrowDown", "Space", "Space")
    seen.page.wait_for_timeout(100)  # the page tells seconds to a tenth
    seen.press("w", "n", "u")
    assert seen.text("said").startswith("Finish the outline first")
    assert "1 of 15 decided" in seen.text("progress")
    seen.press("z", "Enter")  # takes the last corner back, and keeps the rest
    assert "1 of 15 decided, 1 drawn" in seen.text("progress")
    seen.press("m", "Enter")
    drawn = [one for one in seen.download()["features"] if one["properties"]["verdict"] == "missed"]
    assert len(drawn[0]["geometry"]["coordinates"][0]) == 4
    assert drawn[0]["properties"]["seconds"] > 0


def test_keys_work_wherever_the_focus_is(visit, page_file):
    seen = visit(page_file)
    for control in ("#slider", "#order", "#verdict", "#least-area"):
        seen.page.locator(control).focus()
        seen.press("r")
    assert "4 of 15 decided" in seen.text("progress")
    before = seen.page.evaluate("[view.x, view.y]")
    seen.press("Escape", "Shift+ArrowRight", "Shift+ArrowDown")
    after = seen.page.evaluate("[view.x, view.y]")
    assert after[0] > before[0]
    assert after[1] > before[1]
    seen.press("d", *["Shift+ArrowRight"] * 80)
    x, _ = seen.page.evaluate("toScreen(tool.cursor)")
    assert 0 <= x <= seen.page.locator("#canvas").bounding_box()["width"]
    seen.press("Escape")
    seen.page.locator("#list button").nth(2).focus()
    seen.press("Enter")
    assert seen.page.evaluate("document.activeElement.getAttribute('aria-current')") == "true"


MISTAKES = {
    "unknown verdict": {"verdict": "maybe"},
    "note or a reviewer": {"note": {"a": 1}},
    "seconds that are no number": {"seconds": "long"},
    "a place that this page": {"place": "elsewhere"},
    "no polygon": None,
}


@pytest.mark.parametrize("said", MISTAKES)
def test_a_file_with_a_mistake_changes_nothing(visit, page_file, tmp_path, said):
    seen = visit(page_file)
    seen.press("r", "w")
    decided = seen.download()
    first = json.loads(json.dumps(decided))
    if MISTAKES[said] is None:
        decided["features"][1]["geometry"]["type"] = "MultiPolygon"
    else:
        decided["features"][1]["properties"] |= MISTAKES[said]
    (tmp_path / "x.geojson").write_text(json.dumps(decided))
    seen.page.locator("#file").set_input_files(tmp_path / "x.geojson")
    seen.await_text("warning", f"feature 2 {'has' if said != 'a place that this page' else 'lies'}")
    assert said in seen.text("warning")
    assert seen.download() == first


def test_taking_a_file_in_is_undone_at_once(visit, page_file, tmp_path):
    seen = visit(page_file)
    seen.press("r", "w", "u")
    (tmp_path / "x.geojson").write_text(json.dumps(seen.download()))
    other = visit(page_file)
    other.page.locator("#file").set_input_files(tmp_path / "x.geojson")
    other.await_text("progress", "3 of 15 decided")
    other.press("z")
    assert "0 of 15 decided" in other.text("progress")


def test_pairs_without_a_change_can_be_looked_at_and_drawn_on(visit, tmp_path):
    for name, squares in (("one", [(10, 12, 10, 200)]), ("two", []), ("three", [])):
        before, after = (pixels.transpose(1, 2, 0) for pixels in paint((100, 90), squares))
        write_pair(tmp_path, name, before, after)
    package.predict_files(
        tmp_path / "A", tmp_path / "B", Brighter().eval(), tmp_path / "OUT", protocol="whole"
    )
    seen = visit(package.write_review(tmp_path / "OUT").path)
    seen.page.locator("#place").select_option("two")
    seen.press("d", "Space", "Shift+ArrowRight", "Space", "Shift+ArrowDown", "Space", "Enter")
    (drawn,) = seen.download()["features"]
    assert drawn["properties"]["place"] == "two"
    with pytest.warns(package.CtmaWarning, match="shows 1 of 3 pairs of images"):
        page = package.write_review(tmp_path / "OUT", tmp_path / "few.html", most=1)
    assert page.total_bytes < (tmp_path / "OUT/review.html").stat().st_size


def test_the_page_of_differences_is_for_looking(visit, tmp_path):
    old = make_map(tmp_path, *paint_many(3, 3), ("a.tif", "b.tif"), "OLD")
    size, squares = paint_many(3, 3)
    new = make_map(tmp_path, size, squares[:5], ("c.tif", "d.tif"), "NEW")
    package.compare_maps(old, new, tmp_path / "D")
    seen = visit(tmp_path / "D/differences.html")
    assert seen.text("current").startswith("change")
    assert "lost" in seen.text("current")
    seen.press("r", "n", "m", "d")
    assert not seen.page.locator("#right").is_visible()
    assert not seen.page.evaluate("Boolean(tool) || Object.keys(state.verdicts).length")
    seen.page.locator("#verdict").select_option("lost")
    assert seen.page.locator("#list button").count() == 4

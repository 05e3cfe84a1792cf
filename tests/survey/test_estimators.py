"""Areas and accuracies from a stratified sample: worked examples, and what must hold for all."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctma.survey.estimators import Answered, Survey, wilson

PIXELS = (200_000, 150_000, 3_200_000, 6_450_000)
COUNTS = ((66, 0, 5, 4), (0, 55, 8, 12), (1, 0, 153, 11), (2, 1, 9, 313))
"""The worked example of Olofsson et al. 2014: pixels of 30 m, and answers by class of the map."""


def stratum(counts, mapped, area, units=math.inf, **more):
    """A stratum of one class of the map, with so many answers of each true class."""
    true = np.repeat(np.arange(len(counts)), counts)
    return Answered(area, units, np.full(len(true), mapped), true, **more)


@pytest.fixture
def example():
    hectares = [0.09 * pixels for pixels in PIXELS]
    return Survey([stratum(row, i, hectares[i]) for i, row in enumerate(COUNTS)], classes=4)


def test_the_worked_example_of_olofsson_gives_its_areas(example):
    expected = ((21_158, 6_158), (11_686, 3_756), (285_770, 15_510), (581_386, 16_282))
    for number, (area, margin) in enumerate(expected):
        found = example.area(number)
        assert found.value == pytest.approx(area, abs=1)
        assert found.margin == pytest.approx(margin, abs=1)


def test_the_worked_example_of_olofsson_gives_its_accuracies(example):
    overall = example.overall()
    assert (round(overall.value, 3), round(overall.margin, 3)) == (0.947, 0.018)
    users = [example.users(number) for number in range(4)]
    assert [(round(one.value, 2), round(one.margin, 2)) for one in users] == [
        (0.88, 0.07), (0.73, 0.10), (0.93, 0.04), (0.96, 0.02),
    ]  # fmt: skip
    producers = [example.producers(number) for number in range(4)]
    assert [(round(one.value, 2), round(one.margin, 2)) for one in producers] == [
        (0.75, 0.21), (0.85, 0.25), (0.93, 0.03), (0.96, 0.02),
    ]  # fmt: skip


def test_the_matrix_holds_shares_of_the_ground(example):
    assert example.matrix().sum() == pytest.approx(1)
    assert example.matrix()[0, 0] == pytest.approx(0.02 * 66 / 75)
    assert example.counts().tolist() == [[*row] for row in COUNTS]


def test_ratio_forms_agree_where_strata_are_split_classes(example):
    """The class of the map on each unit, not by stratum: the same estimates and errors."""
    mixed = Survey(
        [stratum((30, 10), 0, 700.0), stratum((4, 16), 1, 100.0)]
    )  # fmt: skip
    units = [
        Answered(one.area, one.units, np.append(one.mapped, [0, 1]), np.append(one.true, [0, 1]))
        for one in mixed.strata
    ]
    ratio = Survey(units)
    assert not ratio.nested
    mapped = ratio.matrix()[1].sum()
    assert ratio.users(1).value == pytest.approx(ratio.matrix()[1, 1] / mapped)
    assert ratio.producers(1).value == pytest.approx(
        ratio.matrix()[1, 1] / ratio.matrix()[:, 1].sum()
    )
    assert 0 < ratio.users(1).low < ratio.users(1).value < ratio.users(1).high < 1


@pytest.mark.parametrize("name", ["users", "producers"])
def test_intervals_of_another_map_hold(name):
    """Strata of one map, classes of another one: in strata without an error there may be some."""
    rng = np.random.default_rng(0)
    sizes, drawn = (130_000, 7_400, 1_100), (200, 50, 50)
    shares = ((0.001, 0.0004), (0.06, 0.05), (0.8, 0.7))
    mapped = [
        (rng.random(size) < m).astype(int) for size, (m, _) in zip(sizes, shares, strict=True)
    ]
    true = [
        np.where(rng.random(size) < 0.75, one, (rng.random(size) < t).astype(int))
        for size, one, (_, t) in zip(sizes, mapped, shares, strict=True)
    ]
    whole = mapped if name == "users" else true
    both = sum(int((one * other).sum()) for one, other in zip(mapped, true, strict=True))
    truth = both / sum(int(one.sum()) for one in whole)
    held = []
    for _ in range(300):
        strata = []
        for one, other, size, count in zip(mapped, true, sizes, drawn, strict=True):
            places = rng.choice(size, count, replace=False)
            strata.append(Answered(float(size), size, one[places], other[places]))
        found = getattr(Survey(strata), name)(1)
        held.append(found.low <= truth <= found.high)
    assert np.mean(held) > 0.92


def test_a_stratum_without_an_error_leaves_an_interval():
    survey = Survey([stratum((200, 0), 0, 950.0), stratum((0, 50), 1, 50.0)])
    area = survey.area(1)
    assert (area.value, area.standard_error) == (50, 0)
    assert 45 < area.low < 50 < 60 < area.high < 90
    producers = survey.producers(1)
    assert (producers.value, producers.high) == (1, 1)
    assert 0.5 < producers.low < 0.9
    assert survey.users(1).low == pytest.approx(wilson(1, 50)[0])


def test_a_stratum_that_was_answered_whole_has_no_error():
    survey = Survey([stratum((5, 0), 0, 5.0, units=5), stratum((1, 4), 1, 5.0, units=5)])
    assert survey.area(1) == survey.area(1).times(1)
    assert (survey.area(1).low, survey.area(1).value, survey.area(1).high) == (4, 4, 4)


def test_no_true_change_gives_no_producers_accuracy_but_an_interval_of_the_area():
    survey = Survey([stratum((99, 0), 0, 990.0), stratum((30, 0), 1, 10.0)])
    assert survey.producers(1) is None
    assert survey.area(1).value == 0 < survey.area(1).high < 50
    nothing = Survey([stratum((30, 0), 0, 10.0)])
    assert nothing.users(1) is None


def test_the_maps_probability_narrows_an_interval_and_moves_no_mean():
    rng = np.random.default_rng(0)
    plain, assisted = [], []
    for _ in range(200):
        guesses = rng.beta(0.5, 2, 150)
        true = (rng.random(150) < guesses).astype(np.int64)
        one = Answered(100.0, math.inf, np.zeros(150, int), true, guesses=guesses, mean_guess=0.2)
        plain.append(Survey([one]).area(1))
        assisted.append(Survey([one]).assisted_area())
    assert np.mean([one.value for one in assisted]) == pytest.approx(20, abs=0.7)
    widths = [np.mean([one.standard_error for one in each]) for each in (assisted, plain)]
    assert widths[0] < 0.9 * widths[1]
    assert np.std([one.value for one in assisted]) == pytest.approx(widths[0], rel=0.2)


def test_units_of_unequal_ground_count_by_their_ground():
    weights = np.array([3.0, 1.0, 1.0, 1.0])
    one = Answered(60.0, math.inf, np.ones(4, int), np.array([1, 0, 0, 0]), weights)
    assert Survey([one]).area(1).value == pytest.approx(30)
    assert Survey([one]).area(1).high > 45


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 60), st.floats(0.01, 1e6)),
        min_size=1, max_size=5,
    ).filter(lambda rows: all(still + changed > 1 for still, changed, _ in rows))
)  # fmt: skip
def test_every_estimate_lies_in_its_interval(rows):
    strata = [
        stratum((still, changed), number % 2, area)
        for number, (still, changed, area) in enumerate(rows)
    ]
    survey = Survey(strata)
    estimates = [
        survey.overall(), *(
            find(number)
            for find in (survey.users, survey.producers)
            for number in (0, 1)
        ),
    ]  # fmt: skip
    total = sum(area for *_, area in rows)
    for one in filter(None, estimates):
        assert -1e-9 <= one.low <= one.value + 1e-9
        assert one.value - 1e-9 <= one.high <= 1 + 1e-9
    assert survey.area(0).value + survey.area(1).value == pytest.approx(total)
    assert survey.area(1).low < survey.area(1).high


@pytest.mark.parametrize("share", [0.002, 0.01, 0.05, 0.3])
def test_wilsons_limits_hold_in_about_95_percent(share):
    rng = np.random.default_rng(1)
    hits = rng.binomial(200, share, 4000)
    held = [low <= share <= high for low, high in (wilson(one / 200, 200) for one in hits)]
    assert 0.93 < np.mean(held) < 0.995

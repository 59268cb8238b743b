"""Few seeds compared: by hand, with published values, and by how often intervals hold."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tutelage.sweeps import statistics
from tutelage.sweeps.statistics import (
    Interval,
    Ratio,
    Spent,
    difference,
    faster,
    iqm,
    log_rank,
    median,
    profile,
    ratio,
    seeds_to_find,
)

Steps = list[float | None]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([[1.0, 2.0, 3.0, 100.0]], 2.5),  # one of four is cut at either end
        ([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [6.0], [100.0]], 3.5),
        ([[1.0], [2.0], [9.0]], 4.0),  # a quarter of three is none
        ([[7.0]], 7.0),
    ],
)
def test_the_interquartile_mean_by_hand(scores: list[list[float]], expected: float) -> None:
    found = iqm(np.array(scores))
    assert found.middle == pytest.approx(expected)
    assert found.low <= found.middle <= found.high


def test_runs_are_drawn_within_their_task() -> None:
    # Tasks as far apart as can be, all runs of each the same: no draw changes anything.
    assert iqm(np.array([[0.0, 1_000.0]] * 3)) == Interval(500.0, 500.0, 500.0)


def test_a_profile_by_hand() -> None:
    share, low, high = profile(np.array([[0.0, 2.0], [1.0, 2.0]]), np.array([-1.0, 0.0, 1.0, 2.0]))
    np.testing.assert_allclose(share, [1.0, 0.75, 0.5, 0.0])
    # At 0 the first task's two runs are drawn anew: 0, 1 or 2 of them are above.
    np.testing.assert_allclose(low, [1.0, 0.5, 0.5, 0.0])
    np.testing.assert_allclose(high, [1.0, 1.0, 0.5, 0.0])
    for line in profile(np.array([[1.0, 2.0, 3.0]]), np.array([2.0])):  # nothing to draw anew
        np.testing.assert_allclose(line, [1.0 / 3.0])


def test_the_bootstrap_holds_what_it_says_where_runs_are_many() -> None:
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(100):
        # Of a symmetric distribution the interquartile mean is the mean.
        x = rng.normal(0.0, 1.0, (20, 3))
        found, (_, low, high) = iqm(x), profile(x, np.zeros(1))
        hits += [found.low <= 0.0 <= found.high, bool(low[0] <= 0.5 <= high[0])]
    # 0.95 +- three standard errors, and percentiles are a little narrow.
    assert 0.90 <= np.mean(hits) <= 0.995


# Env steps.

REMISSION = {
    "6-MP": Spent.of(
        [6, 6, 6, None, 7, None, 10, None, None, 13, 16, *[None] * 3, 22, 23, *[None] * 5],
        [0, 0, 0, 6, 0, 9, 0, 10, 11, 0, 0, 17, 19, 20, 0, 0, 25, 32, 32, 34, 35],
    ),
    "placebo": Spent.of(
        [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23], 35
    ),
}
"""Weeks of remission of 42 children with leukaemia: Freireich et al. 1963, Blood 21."""


def test_the_log_rank_test_of_the_remissions_of_leukaemia_is_as_published() -> None:
    drug, placebo = REMISSION["6-MP"], REMISSION["placebo"]
    # The log-rank test's chi-square is 16.79 with one degree of freedom.
    p = log_rank(drug, placebo)
    assert stats.chi2.isf(p, df=1) == pytest.approx(16.79, abs=5e-3)
    assert log_rank(placebo, drug) == pytest.approx(p)


@pytest.mark.parametrize(
    ("ours", "theirs", "p"),
    [
        # Apart: 2 of the 20 ways of dealing six runs out to two sides are as far apart.
        ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0], 2 / 20),
        ([1.0, 2.0, 3.0], [None, None, None], 2 / 20),
        # Nothing to tell them apart.
        ([None] * 3, [None] * 3, 1.0),
        ([2.0, 2.0], [2.0, 2.0], 1.0),
        ([1.0], [2.0], 1.0),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 1.0),
    ],
)
def test_the_log_rank_test_of_a_few_runs_by_hand(ours: Steps, theirs: Steps, p: float) -> None:
    mine, other = Spent.of(ours, 9.0), Spent.of(theirs, 9.0)
    assert log_rank(mine, other) == pytest.approx(p)
    assert log_rank(other, mine) == pytest.approx(p)


def test_the_log_rank_test_of_all_splits_is_of_scipys_statistic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(2)
    for _ in range(5):
        steps, reached = rng.integers(1, 8, 10).astype(float), rng.random(10) < 0.7
        z = []
        for split in combinations(range(10), 5):
            mine = np.isin(range(10), split)
            a, b = (Spent(steps[side], reached[side]) for side in (mine, ~mine))
            with np.errstate(all="ignore"):
                z.append(abs(stats.logrank(a.censored, b.censored).statistic))
        z = np.nan_to_num(z, posinf=0.0)
        found = log_rank(Spent(steps[:5], reached[:5]), Spent(steps[5:], reached[5:]))
        assert found == pytest.approx(np.mean(z >= z[0] - 1e-9))
    monkeypatch.setattr(statistics, "SPLITS", 1)
    ours, theirs = Spent.of([1.0, 3.0, None], 9.0), Spent.of([2.0, 4.0, 5.0], 9.0)
    assert log_rank(ours, theirs) == stats.logrank(ours.censored, theirs.censored).pvalue


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([1.0, 2.0], [3.0, 4.0], 1.0),
        ([1.0, None], [2.0, None], (1.0 + 1.0 + 0.0 + 0.5) / 4.0),
        ([None], [None], 0.5),
        ([None], [8.0], 0.0),
        ([None], [9.0], 0.0),  # after 9 it had still missed
        ([None], [10.0], 0.5),  # it might have taken 9.5
        ([2.0], [2.0], 0.5),
    ],
)
def test_who_is_faster_by_hand(ours: Steps, theirs: Steps, expected: float) -> None:
    mine, other = Spent.of(ours, 9.0), Spent.of(theirs, 9.0)
    assert faster(mine, other) == pytest.approx(expected)
    assert faster(other, mine) == pytest.approx(1.0 - expected)


STEPS = st.lists(st.one_of(st.none(), st.integers(1, 5).map(float)), min_size=1, max_size=4)


@given(ours=STEPS, theirs=STEPS)
def test_env_steps_keep_their_bounds_and_symmetries(ours: Steps, theirs: Steps) -> None:
    mine, other = Spent.of(ours, 6.0), Spent.of(theirs, 6.0)
    assert faster(mine, other) + faster(other, mine) == pytest.approx(1.0)
    p = log_rank(mine, other)
    assert 1.0 / math.comb(len(ours) + len(theirs), len(ours)) - 1e-12 <= p <= 1.0
    assert p == pytest.approx(log_rank(other, mine))
    there, back = ratio(mine, other), ratio(other, mine)
    assert there.middle == pytest.approx(1.0 / back.middle)
    assert (there.at_least, there.at_most) == (back.at_most, back.at_least)


def test_a_ratio_by_hand() -> None:
    # Logarithms 0, 1, 2 against 0, 0, 0: these do not vary, so that nu is 2 and t 4.303.
    found = ratio(Spent.of([1.0, math.e, math.e**2], 0.0), Spent.of([1.0] * 3, 0.0))
    half = 4.30265 / math.sqrt(3.0)
    assert found.middle == pytest.approx(math.e)
    assert math.log(found.low) == pytest.approx(1.0 - half, abs=1e-4)
    assert math.log(found.high) == pytest.approx(1.0 + half, abs=1e-4)


@pytest.mark.parametrize(
    ("ours", "theirs", "text"),
    [
        ([4.0, 4.0], [2.0, 2.0], "2.00 (2.00 … 2.00)"),
        ([4.0, None], [2.0, 2.0], "≥ 4.00"),
        ([16.0, None], [2.0, 2.0], "≥ 8.00 (8.00 …)"),
        ([4.0, 4.0], [None, 16.0], "≤ 0.25 (… 0.25)"),
        ([None], [2.0, 2.0], "≥ 8.00"),  # of one number no interval is known
        ([None, None], [None, 16.0], "~ 1.00"),
        ([4.0], [2.0, 3.0, 5.0], "1.29"),
    ],
)
def test_a_missed_target_makes_a_ratio_a_bound(ours: Steps, theirs: Steps, text: str) -> None:
    assert str(ratio(Spent.of(ours, 16.0), Spent.of(theirs, 16.0))).startswith(text)


def test_runs_that_missed_count_what_each_of_them_spent() -> None:
    found = ratio(Spent.of([None, 8.0], [2.0, 99.0]), Spent.of([4.0, 4.0], 99.0))
    assert found.middle == pytest.approx(1.0)
    assert found.at_least


def test_of_one_number_no_interval_is_given() -> None:
    found = difference([1.0], [2.0, 3.0])
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert str(found) == "-1.50"


@pytest.mark.parametrize("runs", [3, 30])
def test_the_interval_of_a_ratio_holds_what_it_says_with_few_runs(runs: int) -> None:
    rng = np.random.default_rng(5)
    steps = rng.lognormal(9.6, 0.25, (500, 2, runs))
    reached = np.ones(runs, np.bool_)
    found = [ratio(Spent(x, reached), Spent(y, reached)) for x, y in steps]
    assert 0.92 <= np.mean([x.low <= 1.0 <= x.high for x in found]) <= 0.985


@pytest.mark.parametrize(
    ("steps", "expected"),
    [([3.0, 1.0, 2.0, 5.0], 2.5), ([3.0, None, 1.0], 3.0), ([3.0, None], None), ([None], None)],
)
def test_who_never_arrives_took_longest(steps: Steps, expected: float | None) -> None:
    assert median(steps) == expected


def test_four_times_the_data_halve_an_interval() -> None:
    assert Interval(1.0, -1.0, 2.0).narrowed(4.0) == Interval(1.0, 0.0, 1.5)
    bound = Ratio(2.0, 0.5, 8.0, at_least=True, at_most=False)
    assert bound.narrowed(4.0) == Ratio(2.0, 1.0, 4.0, at_least=True, at_most=False)


def test_the_seeds_that_find_a_difference_are_those_of_the_tables() -> None:
    # Cohen 1988, table 2.4.1, two-sided 5 %, power 0.8: 63 to 64 for half a deviation, 25 for 0.8.
    assert [seeds_to_find(d, 1.0) for d in (0.5, 0.8)] == [63, 25]


def test_so_many_seeds_find_it_four_times_of_five() -> None:
    n, rng = seeds_to_find(1.0, 1.0), np.random.default_rng(1)
    ours, theirs = rng.normal(1.0, 1.0, (2_000, n)), rng.normal(0.0, 1.0, (2_000, n))
    found = np.mean(stats.ttest_ind(ours, theirs, axis=1).pvalue < 0.05)
    assert 0.75 < found < 0.83  # by t tests of so few, a little less than by normal ones

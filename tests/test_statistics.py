"""Few seeds compared: by hand, with published values, and by how often intervals hold."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from tutelage.experiments import statistics
from tutelage.experiments.statistics import (
    Interval,
    Ratio,
    Spent,
    difference,
    faster,
    iqm,
    log_rank,
    performance_profiles,
    probability_of_improvement,
    ratio,
)
from tutelage.types import Floats

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 3))
NUMBERS = st.integers(-3, 3).map(float)
"""Few different ones, so that there are ties."""


def column(*scores: float) -> Floats:
    """Return runs of one task."""
    return np.array(scores, np.float64)[:, None]


# Scores.


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([[1.0, 2.0, 3.0, 100.0]], 2.5),  # one of four is cut at either end
        ([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [6.0], [100.0]], 3.5),
        ([[1.0], [2.0], [9.0]], 4.0),  # a quarter of three is none
        ([[7.0]], 7.0),
        ([[5.0, 5.0], [5.0, 5.0]], 5.0),
    ],
)
def test_the_interquartile_mean_by_hand(scores: list[list[float]], expected: float) -> None:
    (found,) = iqm({"a": np.array(scores)}).values()
    assert found.middle == pytest.approx(expected)
    assert found.low <= found.middle <= found.high


def test_one_run_of_each_task_leaves_the_bootstrap_nothing_to_draw() -> None:
    scores = {"a": np.array([[1.0, 2.0, 3.0, 100.0]])}
    assert iqm(scores)["a"] == Interval(2.5, 2.5, 2.5)
    profile = performance_profiles(scores, np.array([2.0]))["a"]
    for line in (profile.low, profile.share, profile.high):
        np.testing.assert_allclose(line, [0.5])


def test_runs_are_drawn_within_their_task() -> None:
    # Tasks as far apart as can be, all runs of each the same: no draw changes anything.
    scores = {"a": np.array([[0.0, 1_000.0]] * 3)}
    assert iqm(scores)["a"] == Interval(500.0, 500.0, 500.0)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([3.0], [2.0], 1.0),
        ([2.0], [2.0], 0.5),
        ([1.0, 3.0], [2.0, 4.0], 0.25),
        ([1.0, 2.0, 3.0], [2.0, 2.0], (0.0 + 1.0 + 2.0) / 6.0),
        ([2.0, 5.0], [2.0, 5.0], 0.5),
    ],
)
def test_the_probability_of_improvement_by_hand(
    x: list[float], y: list[float], expected: float
) -> None:
    scores = {"x": column(*x), "y": column(*y)}
    found = probability_of_improvement(scores, "x", "y")
    assert found.middle == pytest.approx(expected)
    assert 0.0 <= found.low <= found.middle <= found.high <= 1.0


def test_the_probability_of_improvement_is_a_mean_over_tasks() -> None:
    scores = {"x": np.array([[1.0, 1.0]]), "y": np.array([[0.0, 1.0], [0.0, 2.0]])}
    assert probability_of_improvement(scores, "x", "y").middle == (1.0 + 0.25) / 2.0


def test_scores_are_summed_up_as_rliable_defines_it() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, (5, 4)).astype(float), rng.integers(1, 7, (7, 4)).astype(float)
    scores = {"x": x, "y": y}
    assert iqm(scores)["y"].middle == stats.trim_mean(y, proportiontocut=0.25, axis=None)
    u = [stats.mannwhitneyu(x[:, k], y[:, k], alternative="greater").statistic for k in range(4)]
    found = probability_of_improvement(scores, "x", "y")
    assert found.middle == pytest.approx(np.mean(u) / (5 * 7))
    taus = np.arange(-1.0, 8.0, 0.5)
    expected = [np.mean(x > tau) for tau in taus]
    np.testing.assert_allclose(performance_profiles(scores, taus)["x"].share, expected)


def test_a_profile_by_hand() -> None:
    scores = {"a": np.array([[0.0, 2.0], [1.0, 2.0]])}
    profile = performance_profiles(scores, np.array([-1.0, 0.0, 1.0, 2.0]))["a"]
    np.testing.assert_allclose(profile.share, [1.0, 0.75, 0.5, 0.0])
    # At 0 the first task's two runs are drawn anew: 0, 1 or 2 of them are above.
    np.testing.assert_allclose(profile.low, [1.0, 0.5, 0.5, 0.0])
    np.testing.assert_allclose(profile.high, [1.0, 1.0, 0.5, 0.0])


@given(st.data())
@settings(max_examples=40)
def test_scores_keep_their_bounds_and_symmetries(data: st.DataObject) -> None:
    runs, tasks = data.draw(SHAPES)
    x = data.draw(arrays(np.float64, (runs, tasks), elements=NUMBERS))
    y = data.draw(arrays(np.float64, (data.draw(st.integers(1, 4)), tasks), elements=NUMBERS))
    scores = {"x": x, "y": y}
    middle = iqm(scores)["x"]
    assert x.min() <= middle.low <= middle.middle + 1e-9
    assert middle.middle - 1e-9 <= middle.high <= x.max()
    there = probability_of_improvement(scores, "x", "y")
    back = probability_of_improvement(scores, "y", "x")
    assert there.middle + back.middle == pytest.approx(1.0)
    for found in (there, back):
        assert -1e-9 <= found.low <= found.high <= 1.0 + 1e-9
    profile = performance_profiles(scores, np.linspace(-4.0, 4.0, 17))["x"]
    for line in (profile.share, profile.low, profile.high):
        assert np.all(np.diff(line) <= 1e-9)
        assert line[0] == pytest.approx(1.0)
        assert line[-1] == pytest.approx(0.0)
    assert np.all(profile.low <= profile.share + 1e-9)
    assert np.all(profile.share <= profile.high + 1e-9)


def coverage(hits: Sequence[bool]) -> float:
    return float(np.mean(hits))


def test_the_bootstrap_holds_what_it_says_where_runs_are_many() -> None:
    rng = np.random.default_rng(1)
    hits: dict[str, list[bool]] = {"iqm": [], "improvement": [], "profile": []}
    for _ in range(200):
        # Of a symmetric distribution the interquartile mean is the mean.
        scores = {"x": rng.normal(0.0, 1.0, (20, 3)), "y": rng.normal(0.0, 1.0, (20, 3))}
        found = iqm({"x": scores["x"]})["x"]
        hits["iqm"].append(found.low <= 0.0 <= found.high)
        found = probability_of_improvement(scores, "x", "y")
        hits["improvement"].append(found.low <= 0.5 <= found.high)
        profile = performance_profiles({"x": scores["x"]}, np.zeros(1))["x"]
        hits["profile"].append(bool(profile.low[0] <= 0.5 <= profile.high[0]))
    # 0.95 +- three standard errors, and percentiles are a little narrow.
    for name, of in hits.items():
        assert 0.90 <= coverage(of) <= 0.995, name


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
def test_the_log_rank_test_of_a_few_runs_by_hand(
    ours: list[float | None], theirs: list[float | None], p: float
) -> None:
    mine, other = Spent.of(ours, 9.0), Spent.of(theirs, 9.0)
    assert log_rank(mine, other) == pytest.approx(p)
    assert log_rank(other, mine) == pytest.approx(p)


def test_the_log_rank_test_of_all_splits_is_of_scipys_statistic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        both = Spent(rng.integers(1, 8, 10).astype(float), rng.random(10) < 0.7)
        splits = [(of(both, a), of(both, b)) for a, b in every_split(10, 5)]
        with np.errstate(all="ignore"):
            z = [abs(stats.logrank(a.censored, b.censored).statistic) for a, b in splits]
        z = np.nan_to_num(z, posinf=0.0)
        assert log_rank(*splits[0]) == pytest.approx(np.mean(z >= z[0] - 1e-9))
    monkeypatch.setattr(statistics, "SPLITS", 1)
    ours, theirs = Spent.of([1.0, 3.0, None], 9.0), Spent.of([2.0, 4.0, 5.0], 9.0)
    asymptotic = stats.logrank(ours.censored, theirs.censored).pvalue
    assert log_rank(ours, theirs) == pytest.approx(asymptotic)


def of(both: Spent, index: list[int]) -> Spent:
    return Spent(both.steps[index], both.reached[index])


def every_split(runs: int, size: int) -> Sequence[tuple[list[int], list[int]]]:
    """Return every way of dealing runs out to two sides, the given one first."""
    ways = [[i for i in range(runs) if mask >> i & 1] for mask in range(2**runs)]
    ours = sorted(way for way in ways if len(way) == size)
    return [(way, [i for i in range(runs) if i not in way]) for way in ours]


def test_the_log_rank_test_is_level() -> None:
    rng = np.random.default_rng(3)
    p = []
    for _ in range(400):
        x, y = rng.exponential(1.0, (2, 4)).clip(max=1.5)
        p.append(log_rank(Spent(x, x < 1.5), Spent(y, y < 1.5)))
    for level in (0.05, 0.1, 0.3):
        assert np.mean(np.array(p) <= level) <= level + 3.0 * math.sqrt(level * (1 - level) / 400)
    assert np.mean(np.array(p) <= 0.3) > 0.15


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
def test_who_is_faster_by_hand(
    ours: list[float | None], theirs: list[float | None], expected: float
) -> None:
    mine, other = Spent.of(ours, 9.0), Spent.of(theirs, 9.0)
    assert faster(mine, other).middle == pytest.approx(expected)
    assert faster(other, mine).middle == pytest.approx(1.0 - expected)


STEPS = st.lists(st.one_of(st.none(), st.integers(1, 5).map(float)), min_size=1, max_size=4)


@given(ours=STEPS, theirs=STEPS)
def test_env_steps_keep_their_bounds_and_symmetries(
    ours: list[float | None], theirs: list[float | None]
) -> None:
    mine, other = Spent.of(ours, 6.0), Spent.of(theirs, 6.0)
    assert faster(mine, other).middle + faster(other, mine).middle == pytest.approx(1.0)
    p = log_rank(mine, other)
    assert 0.0 < p <= 1.0
    assert p == pytest.approx(log_rank(other, mine))
    assert p >= 1.0 / math.comb(len(ours) + len(theirs), len(ours)) - 1e-12
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
    ("ours", "theirs", "middle", "text"),
    [
        ([4.0, 4.0], [2.0, 2.0], 2.0, "2.00 (2.00 … 2.00)"),
        ([4.0, None], [2.0, 2.0], 4.0, "≥ 4.00"),
        ([16.0, None], [2.0, 2.0], 8.0, "≥ 8.00 (8.00 …)"),
        ([4.0, 4.0], [None, 16.0], 0.25, "≤ 0.25 (… 0.25)"),
        ([None], [2.0, 2.0], 8.0, "≥ 8.00"),
        ([None, None], [None, 16.0], 1.0, "~ 1.00"),
        ([4.0], [2.0, 3.0, 5.0], 4.0 / 30 ** (1 / 3), "1.29"),
    ],
)
def test_a_missed_target_makes_a_ratio_a_bound(
    ours: list[float | None], theirs: list[float | None], middle: float, text: str
) -> None:
    found = ratio(Spent.of(ours, 16.0), Spent.of(theirs, 16.0))
    assert found.middle == pytest.approx(middle)
    assert str(found).startswith(text)


def test_runs_that_missed_count_what_each_of_them_spent() -> None:
    found = ratio(Spent.of([None, 8.0], [2.0, 99.0]), Spent.of([4.0, 4.0], 99.0))
    assert found.middle == pytest.approx(1.0)
    assert isinstance(found, Ratio)
    assert found.at_least


def test_a_difference_is_welchs() -> None:
    rng = np.random.default_rng(4)
    for n, m in ((2, 2), (3, 5), (100, 3)):
        x, y = rng.normal(0.0, 1.0, n), rng.normal(1.0, 2.0, m)
        found = difference(x, y)
        expected = stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
        assert found.middle == pytest.approx(x.mean() - y.mean())
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_of_one_number_no_interval_is_given() -> None:
    found = difference([1.0], [2.0, 3.0])
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert str(found) == "-1.50"


@pytest.mark.parametrize("runs", [3, 5, 30])
def test_the_interval_of_a_ratio_holds_what_it_says_with_few_runs(runs: int) -> None:
    rng = np.random.default_rng(5)

    def lognormal() -> Spent:
        return Spent.of(rng.lognormal(9.6, 0.25, runs).tolist(), 0.0)

    found = [ratio(lognormal(), lognormal()) for _ in range(2_000)]
    assert 0.935 <= coverage([x.low <= 1.0 <= x.high for x in found]) <= 0.98

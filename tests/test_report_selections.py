"""Shares, regret and the table of picks worked out by hand, and the figure that shows them."""

import numpy as np
import numpy.typing as npt
import pytest

from tutelage.choice_log import Log
from tutelage.errors import UserError
from tutelage.report.selections import choices_of, picks, regret, shares
from tutelage.types import Feedback


def log_of(rounds: npt.ArrayLike, arm: npt.ArrayLike, reward: npt.ArrayLike) -> Log:
    arms = np.array(arm)
    rows = Feedback(np.zeros((len(arms), 0)), arms, np.array(reward, float), np.ones(len(arms)))
    return Log(np.array(rounds), rows)


DASH = "\N{EN DASH}"
SIX = log_of([1, 2, 3, 4, 5, 6], [0, 1, 3, 1, 1, 3], [0.0, 0.5, 0.25, 1.0, 0.75, 0.5])
"""Means 0, 0.75, none, 0.375: gaps 0.75, 0, none, 0.375, on average 0.375."""


def test_regret_by_hand() -> None:
    cost = regret(SIX, 4)
    np.testing.assert_array_equal(cost.round, [1, 2, 3, 4, 5, 6])
    np.testing.assert_allclose(cost.run, [0.75, 0.75, 1.125, 1.125, 1.125, 1.5])
    np.testing.assert_allclose(cost.random, 0.375 * np.arange(1, 7))
    # The gaps lie 0.375, -0.375 and 0 from their mean: a variance of 0.28125 / 3 a choice.
    np.testing.assert_allclose(cost.spread, 1.96 * np.sqrt(0.09375 * np.arange(1, 7)))


def test_regret_sums_over_the_choices_of_a_round_in_any_order() -> None:
    cost = regret(log_of([7, 3, 3, 7, 7], [0, 0, 1, 1, 1], [1.0, 0.5, 0.0, 0.5, 0.25]), 2)
    # Means 0.75 and 0.25; round 3 chose one of each, round 7 one and two.
    np.testing.assert_array_equal(cost.round, [3, 7])
    np.testing.assert_allclose(cost.run, [0.5, 1.5])
    np.testing.assert_allclose(cost.random, [0.5, 1.25])


def test_random_choice_ends_within_its_band_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    paid = np.array([0.1, 0.4, 0.9])
    inside = []
    for _ in range(300):
        arm = rng.integers(3, size=50)
        cost = regret(log_of(np.arange(50), arm, paid[arm]), 3)
        inside.append(abs(cost.run[-1] - cost.random[-1]) <= cost.spread[-1])
    # Binomial(300, 0.95) is outside this once in 5,000 times.
    assert 0.90 < np.mean(inside) < 0.99


def test_shares_by_hand() -> None:
    edges, share = shares(SIX, 4)
    np.testing.assert_array_equal(edges, [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5])
    np.testing.assert_array_equal(share, np.eye(4)[[0, 1, 3, 1, 1, 3]].T)
    # A bin reaches to the next round that settled a choice.
    edges, share = shares(log_of([2, 2, 2, 2, 9], [0, 1, 1, 1, 0], np.zeros(5)), 2)
    np.testing.assert_array_equal(edges, [1.5, 8.5, 9.5])
    np.testing.assert_array_equal(share, [[0.25, 1.0], [0.75, 0.0]])
    # Many rounds share forty bins.
    edges, share = shares(log_of(np.arange(1, 101), np.arange(100) % 2, np.zeros(100)), 3)
    assert share.shape == (3, 40)
    np.testing.assert_array_equal(edges[[0, 1, -1]], [0.5, 3.5, 100.5])
    np.testing.assert_allclose(share[:, :2].T, [[2 / 3, 1 / 3, 0.0], [1 / 3, 2 / 3, 0.0]])


def test_picks_by_hand() -> None:
    rows = picks(SIX, ["a", "b", "c", "d"])
    assert [row["teacher"] for row in rows] == ["b", "d", "a", "c"]
    assert [row["paid choices"] for row in rows] == ["3", "2", "1", "0"]
    assert [row["share"] for row in rows] == ["50.0 %", "33.3 %", "16.7 %", "0.0 %"]
    assert [row["mean reward"] for row in rows] == ["0.750", "0.375", "0.000", DASH]
    # Of two rounds a quarter of the resamples are the one twice, a quarter the other; a single
    # round tells nothing of how much rounds differ.
    assert [row["95 % interval"] for row in rows[1:]] == ["0.250 … 0.500", DASH, DASH]


def test_choices_of_one_round_are_resampled_together() -> None:
    once = log_of([1, 2, 3], [0, 0, 0], [0.5, 1.0, 0.75])
    thrice = log_of(np.repeat([1, 2, 3], 3), np.zeros(9, int), np.repeat([0.5, 1.0, 0.75], 3))
    (one,), (three,) = picks(once, ["a"]), picks(thrice, ["a"])
    assert one["95 % interval"] == three["95 % interval"] == "0.500 … 1.000"


def test_the_figure_names_every_teacher_and_draws_its_share_and_the_regret() -> None:
    names = ["$a$", "best", "never chosen, of a name that is much too long", "d"]
    upper, lower = choices_of(SIX, names, title="A run").axes
    labels = upper.get_yticklabels()
    shown = [label.get_text() for label in labels]
    assert shown[:3] == ["best", "d", r"\$a\$"]
    assert shown[3].startswith("never")
    assert [label.get_fontweight() == "bold" for label in labels] == [True, False, False, False]
    beside = upper.child_axes[0].get_yticklabels()
    assert [label.get_text() for label in beside] == ["50.0 %", "33.3 %", "16.7 %", "0.0 %"]
    run, random = lower.lines
    np.testing.assert_allclose(np.asarray(run.get_ydata()), [0.0, *regret(SIX, 4).run])
    np.testing.assert_allclose(np.asarray(random.get_ydata()), [0.0, *regret(SIX, 4).random])


@pytest.mark.parametrize("draw", [picks, lambda log, names: choices_of(log, names, title="A")])
def test_an_arm_without_a_name_is_refused(draw: object) -> None:
    with pytest.raises(UserError, match="3"):
        draw(SIX, "abc")  # type: ignore[operator]

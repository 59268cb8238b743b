"""Every policy against values worked out by hand and published regret bounds."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tutelage.errors import UserError
from tutelage.selectors import SELECTORS, is_contextual
from tutelage.selectors.bandits import (
    Exp3,
    beta_chances,
    beta_quantile,
    gaussian_chances,
    gaussian_quantile,
    tuned_bound,
    upper_bound,
)
from tutelage.selectors.base import DistributionSelector
from tutelage.selectors.probabilities import epsilon_greedy
from tutelage.selectors.statistics import Statistics
from tutelage.types import Feedback, Floats

NOTHING = np.zeros((1, 0))


def statistics(*rounds: tuple[int, float], num_arms: int = 2, **options: Any) -> Statistics:
    s = Statistics(num_arms, **options)
    for arm, reward in rounds:
        s.add(arm, reward)
    return s


def settle(
    selector: DistributionSelector, arm: int, reward: float, probability: float = 1.0
) -> None:
    row = (np.array([arm]), np.array([float(reward)]), np.array([probability]))
    selector.update(Feedback(NOTHING, *row))


def make(name: str, num_arms: int, seed: Any = 0, **parameters: Any) -> Any:
    return SELECTORS[name](num_arms=num_arms, rng=np.random.default_rng(seed), **parameters)


# Values worked out by hand. n_0 = 2 with mean 1/2 and variance 1/4, n_1 = 1 with mean 1/2: ln 3 =
# 1.098612.


def test_ucb1_index() -> None:
    s = statistics((0, 1.0), (0, 0.0), (1, 0.5))
    # 1/2 + sqrt(2 * 1.098612 / 2), 1/2 + sqrt(2 * 1.098612)
    np.testing.assert_allclose(upper_bound(s, 2.0), [1.548147, 1.982304], atol=1e-6)


def test_ucb1_tuned_index_where_a_quarter_is_less_than_the_variance_bound() -> None:
    s = statistics((0, 1.0), (0, 0.0), (1, 0.5))
    # 1/2 + sqrt(1.098612 / 2 / 4), 1/2 + sqrt(1.098612 / 4)
    np.testing.assert_allclose(tuned_bound(s), [0.870576, 1.024074], atol=1e-6)


def test_ucb1_tuned_index_where_the_variance_bound_is_less() -> None:
    s = statistics((1, 0.5))
    s.count[0], s.total[0], s.squares[0] = 10_000.0, 5_000.0, 2_500.0
    # ln 10001 = 9.210440; V_0 = 0 + sqrt(2 * 9.210440 / 10000) = 0.042919
    assert tuned_bound(s)[0] == pytest.approx(0.506287, abs=1e-6)


def test_discounted_ucb_index() -> None:
    s = statistics((0, 1.0), (1, 0.0), (0, 1.0), discount=0.5)
    # n_0 = 1/4 + 1, n_1 = 1/2, n = 7/4; 1 + 2 sqrt(0.15 ln 1.75 / 1.25), 2 sqrt(0.15 ln 1.75 / 0.5)
    np.testing.assert_allclose(s.count, [1.25, 0.5])
    np.testing.assert_allclose(upper_bound(s, 4.0 * 0.15), [1.518281, 0.819475], atol=1e-6)


def test_sliding_window_ucb_index() -> None:
    s = statistics((0, 0.0), (0, 1.0), (1, 0.0), (1, 1.0), window=3)
    # The first round has left: 1 + sqrt(0.6 ln 3), 1/2 + sqrt(0.6 ln 3 / 2)
    np.testing.assert_allclose(upper_bound(s, 0.6), [1.811891, 1.074094], atol=1e-6)


def test_a_teacher_outside_the_window_is_tried_again() -> None:
    selector = make("sliding-window-ucb", 2, window=3)
    for arm in (0, 1, 1, 1):
        settle(selector, arm, 1.0)
    np.testing.assert_array_equal(selector.probabilities(NOTHING), [[1.0, 0.0]])


def test_discounted_ucb_survives_losing_the_arm_that_was_chosen_last() -> None:
    selector = make("discounted-ucb", 3, discount=0.5)
    for arm in (0, 1, 2, 2, 2, 2):
        settle(selector, arm, 0.5)
    selector.drop(2)
    assert selector.probabilities(NOTHING).sum() == 1.0


def test_bayes_ucb_beta_index() -> None:
    # Beta(2,1) has distribution function x^2, Beta(1,2) has 1 - (1 - x)^2; the level is 1 - 1/3.
    s = statistics((0, 1.0), (1, 0.0))
    np.testing.assert_allclose(beta_quantile(s), [math.sqrt(2 / 3), 1 - math.sqrt(1 / 3)])


def test_bayes_ucb_gaussian_index() -> None:
    # Precision 4 + 1 / 0.25 = 8, means (2 + 4) / 8 and 2 / 8, Phi^-1(2/3) = 0.430727.
    s = statistics((0, 1.0), (1, 0.0))
    spread = 0.430727 / math.sqrt(8.0)
    expected = [0.75 + spread, 0.25 + spread]
    np.testing.assert_allclose(gaussian_quantile(s, noise=0.5), expected, atol=1e-6)


def test_thompson_chances() -> None:
    s = statistics((0, 1.0), (1, 0.0))
    # P(X > Y), X ~ Beta(2,1), Y ~ Beta(1,2): integral of 2x (2x - x^2) = 5/6
    np.testing.assert_allclose(beta_chances(s), [5 / 6, 1 / 6], atol=0.005)
    # Means 3/4 and 1/4, variances 1/8 each: Phi(1)
    np.testing.assert_allclose(gaussian_chances(s, 0.5), [0.841345, 0.158655], atol=1e-6)


def test_thompson_chances_agree_with_draws() -> None:
    rounds = [(0, 1.0)] * 30 + [(0, 0.0)] * 10 + [(1, 1.0)] * 3 + [(2, 0.0), (3, 1.0)]
    s = statistics(*rounds, num_arms=4)
    draws = np.random.default_rng(0).beta(1 + s.total, 1 + s.count - s.total, (100_000, 4))
    share = np.bincount(draws.argmax(axis=1), minlength=4) / len(draws)
    np.testing.assert_allclose(beta_chances(s), share, atol=0.01)


def test_thompson_counts_a_reward_between_as_one_or_zero() -> None:
    selector = make("thompson-beta", 1)
    for _ in range(400):
        settle(selector, 0, 0.3)
    successes = selector.statistics.total[0]
    assert successes == round(successes)
    assert abs(successes - 120) < 4 * math.sqrt(400 * 0.3 * 0.7)


def test_epsilon_greedy_distribution() -> None:
    p = epsilon_greedy(np.array([[0.1, 0.7, 0.7], [0.9, 0.0, 0.1]]), 0.3)
    np.testing.assert_allclose(p, [[0.1, 0.8, 0.1], [0.8, 0.1, 0.1]])


def test_epsilon_follows_its_schedule_over_rounds() -> None:
    selector = make("epsilon-greedy", 2, epsilon=lambda rounds: 1.0 / rounds)
    for rounds, arm in enumerate((0, 1, 0, 0), start=1):
        settle(selector, arm, 1.0 if arm == 0 else 0.0)
        if rounds >= 2:
            share = 1.0 / rounds / 2
            np.testing.assert_allclose(selector.probabilities(NOTHING), [[1 - share, share]])


def test_vdbe_epsilon() -> None:
    selector = make("vdbe", 2)
    assert selector.epsilon == 1.0
    # The value of arm 0 goes from 0 to 1, then to 1/2: f = 0.907849, then 0.639647; delta = 1/2.
    settle(selector, 0, 1.0)
    assert selector.epsilon == pytest.approx(0.953924, abs=1e-6)
    settle(selector, 0, 0.0)
    assert selector.epsilon == pytest.approx(0.796786, abs=1e-6)


def test_exp3_distribution() -> None:
    selector = Exp3(num_arms=2, rng=np.random.default_rng(0), gamma=0.5)
    settle(selector, 1, 0.0, probability=0.5)
    settle(selector, 0, 1.0, probability=0.5)
    # w_0 = exp(0.5 * (1 / 0.5) / 2) = 1.648721; p_0 = 0.5 * 0.622459 + 0.25
    np.testing.assert_allclose(selector.probabilities(NOTHING), [[0.561230, 0.438770]], atol=1e-6)


def test_exp3_s_distribution() -> None:
    selector = Exp3(num_arms=2, rng=np.random.default_rng(0), gamma=0.5, alpha=0.1)
    # Both tried; weights stay equal with no reward.
    settle(selector, 1, 0.0, probability=0.5)
    settle(selector, 0, 1.0, probability=0.5)
    # w = (1.648721, 1) + e * 0.1 * 2 / 2 = (1.920549, 1.271828)
    np.testing.assert_allclose(selector.probabilities(NOTHING), [[0.550802, 0.449198]], atol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.01])
def test_exp3_in_logarithms_is_exp3_with_plain_weights(alpha: float) -> None:
    rng = np.random.default_rng(0)
    selector = Exp3(num_arms=3, rng=np.random.default_rng(1), gamma=0.2, alpha=alpha)
    for arm in range(3):
        settle(selector, arm, 0.0, probability=1 / 3)
    weight = np.full(3, (1.0 + math.e * alpha) ** 3)
    for _ in range(200):
        p = 0.8 * weight / weight.sum() + 0.2 / 3
        np.testing.assert_allclose(selector.probabilities(NOTHING)[0], p, rtol=1e-9)
        arm, reward = int(rng.integers(3)), float(rng.random())
        settle(selector, arm, reward, probability=p[arm])
        share = math.e * alpha / 3 * weight.sum()
        weight[arm] *= math.exp(0.2 * reward / p[arm] / 3)
        weight += share


def test_exp3_cannot_overflow() -> None:
    selector = Exp3(num_arms=2, rng=np.random.default_rng(0), gamma=1.0)
    settle(selector, 1, 0.0)
    for _ in range(5):
        settle(selector, 0, 1.0, probability=1e-6)
    np.testing.assert_allclose(selector.probabilities(NOTHING), [[0.5, 0.5]])
    assert np.isfinite(selector.state()["memory"]["log_weight"]).all()


def test_best_first_never_changes_its_mind() -> None:
    selector = make("best-first", 3)
    for arm, score in ((0, 0.4), (1, 0.9), (2, 0.6)):
        settle(selector, arm, score)
    for _ in range(5):
        settle(selector, 1, 0.0)
    np.testing.assert_array_equal(selector.probabilities(NOTHING), [[0.0, 1.0, 0.0]])
    selector.drop(1)
    np.testing.assert_array_equal(selector.probabilities(NOTHING), [[0.0, 0.0, 1.0]])


@pytest.mark.parametrize("trials", [(-200.0, -150.0, 1e6), (-np.inf, 0.0, 1e-9)])
def test_best_first_takes_returns_of_any_size_that_were_measured_before(
    trials: tuple[float, ...],
) -> None:
    selector = make("best-first", 3)
    with pytest.raises(UserError):
        selector.score(np.array(trials[:2]))
    with pytest.raises(UserError):
        selector.score(np.array([*trials[:2], np.nan]))
    selector.score(np.array(trials))
    np.testing.assert_allclose(selector.statistics.total, [1 / 6, 3 / 6, 5 / 6])
    settle(selector, 2, 0.0)
    np.testing.assert_array_equal(selector.probabilities(NOTHING), [[0.0, 0.0, 1.0]])
    selector.drop(2)
    np.testing.assert_array_equal(selector.probabilities(NOTHING), [[0.0, 1.0, 0.0]])


# Regret on simulated bandits of Bernoulli rewards.


def regrets(
    name: str, means: Callable[[int], Floats], rounds: int, seeds: int, **parameters: Any
) -> Floats:
    """Return the sum over rounds of best mean - chosen mean, for each seed."""
    out = []
    for seed in range(seeds):
        rng = np.random.default_rng([seed, 1])
        selector = make(name, len(means(0)), seed=[seed, 0], **parameters)
        lost = 0.0
        for t in range(rounds):
            mean, choice = means(t), selector.choose(NOTHING)
            lost += mean.max() - mean[choice.arm[0]]
            paid = (rng.random(1) < mean[choice.arm]).astype(float)
            selector.update(Feedback(NOTHING, choice.arm, paid, choice.probability))
        out.append(lost)
    return np.array(out)


STATIONARY = np.array([0.3, 0.9, 0.1, 0.6])


def test_ucb1_stays_within_its_bound() -> None:
    gaps = 0.9 - STATIONARY[STATIONARY < 0.9]
    # Auer et al. 2002, theorem 1; at 408 it is far below the 1275 of random choice.
    bound = 8 * math.log(3000) * (1 / gaps).sum() + (1 + math.pi**2 / 3) * gaps.sum()
    assert regrets("ucb1", lambda t: STATIONARY, 3000, seeds=3).mean() < bound


def test_exp3_stays_within_its_bound() -> None:
    # Auer et al. 2002b, corollary 3.2, with g = T: 339.
    bound = 2.63 * math.sqrt(3000 * 4 * math.log(4))
    assert regrets("exp3", lambda t: STATIONARY, 3000, seeds=3, horizon=3000).mean() < bound


def test_exp3_s_stays_within_its_bound_where_the_best_arm_changes() -> None:
    def means(t: int) -> Floats:
        return np.array([0.9, 0.1] if t < 2000 else [0.1, 0.9])

    # Auer et al. 2002b, corollary 8.3, with S = 2: 1067; random choice loses 1600.
    bound = 2 * math.sqrt((math.e - 1) * 2 * 4000 * (2 * math.log(2 * 4000) + math.e))
    lost = regrets("exp3-s", means, 4000, seeds=3, horizon=4000, segments=2)
    assert lost.mean() < bound


@pytest.mark.parametrize(
    "name", [name for name in SELECTORS if name != "random" and not is_contextual(name)]
)
def test_regret_is_far_below_that_of_random_choice(name: str) -> None:
    lost = regrets(name, lambda t: STATIONARY, 800, seeds=3)
    random = regrets("random", lambda t: STATIONARY, 800, seeds=3)
    assert lost.mean() < 0.75 * random.mean()
    noise = math.sqrt((lost.var(ddof=1) + random.var(ddof=1)) / 3)
    assert random.mean() - lost.mean() > 5.0 * noise


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("discounted-ucb", {}),
        ("sliding-window-ucb", {}),
        ("exp3-s", {"horizon": 4000, "segments": 2}),
    ],
)
def test_where_the_best_arm_gets_worse_forgetting_beats_ucb1(
    name: str, parameters: dict[str, Any]
) -> None:
    def means(t: int) -> Floats:
        return np.array([0.9 if t < 2000 else 0.3, 0.5, 0.5])

    lost = regrets(name, means, 4000, seeds=3, **parameters)
    assert lost.max() < regrets("ucb1", means, 4000, seeds=3).min()

"""What is counted of each arm, and the chance that an arm is the best."""

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from tutelage.selectors.probabilities import largest_gaussian, normal_cdf
from tutelage.selectors.statistics import Statistics, mid_rank
from tutelage.types import Floats


def test_statistics_of_some_arms_are_those_of_a_bandit_without_the_others() -> None:
    whole, part = Statistics(3), Statistics(2)
    for arm, reward in ((0, 0.2), (1, 0.4), (2, 1.0), (0, 0.6)):
        whole.add(arm, reward)
        if arm != 1:
            part.add(arm // 2, reward)
    some = whole.only(np.array([0, 2]))
    for name in ("count", "mean", "variance"):
        np.testing.assert_allclose(getattr(some, name), getattr(part, name))


def test_a_mid_rank_is_the_share_below_with_ties_split() -> None:
    # Of five: two below 3 and one equal; none below 1, two equal; all below 9.
    among = np.array([5.0, 1.0, 3.0, 1.0, 7.0])
    np.testing.assert_allclose(mid_rank(np.array([3.0, 1.0, 9.0]), among), [0.5, 0.2, 1.0])
    assert mid_rank(among, among).mean() == pytest.approx(0.5)


def test_a_window_forgets_exactly() -> None:
    rng = np.random.default_rng(0)
    rounds = [(int(rng.integers(3)), float(rng.random())) for _ in range(500)]
    long, fresh = Statistics(3, window=20), Statistics(3)
    for row in rounds:
        long.add(*row)
    for row in rounds[-20:]:
        fresh.add(*row)
    np.testing.assert_array_equal(long.count, fresh.count)
    np.testing.assert_allclose(long.total, fresh.total, atol=1e-12)
    np.testing.assert_allclose(long.squares, fresh.squares, atol=1e-12)


def integral(mean: Floats, sd: Floats) -> Floats:
    """P(theta_k is the largest), by 4,000 quantiles of each arm."""
    z = ndtri((np.arange(4000) + 0.5) / 4000)
    out = []
    for k in range(len(mean)):
        below = ndtr((mean[k] + sd[k] * z - mean[:, None]) / sd[:, None])
        out.append(np.delete(below, k, axis=0).prod(axis=0).mean())
    return np.array(out)


@pytest.mark.parametrize("num_arms", [2, 3, 12])
def test_chances_of_being_the_largest_agree_with_the_integral(num_arms: int) -> None:
    rng = np.random.default_rng(0)
    mean = rng.normal(0.5, 0.3, (50, num_arms))
    # From an arm tried once to one tried thousands of times.
    sd = np.exp(rng.uniform(np.log(0.01), np.log(0.5), (50, num_arms)))
    chance = largest_gaussian(mean, sd)
    error = np.abs(chance - [integral(m, s) for m, s in zip(mean, sd, strict=True)])
    np.testing.assert_allclose(chance.sum(axis=1), 1.0)
    assert error.max() < 0.02
    assert error.mean() < 0.003


def test_the_quick_normal_distribution_function_is_near_the_exact_one() -> None:
    z = np.concatenate([np.linspace(-6.0, 6.0, 1001), [-1e9, 1e9]])
    np.testing.assert_allclose(normal_cdf(z), ndtr(z), atol=2e-4)

"""Estimates by hand, and their bias and variance over many simulated logs."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tutelage.choice_log import Log
from tutelage.errors import UserError
from tutelage.selectors import SELECTORS
from tutelage.selectors.offpolicy import ESTIMATORS, Policy, cross_fitted, evaluate
from tutelage.types import Feedback, Floats


def log_of(
    context: npt.ArrayLike, arm: npt.ArrayLike, reward: npt.ArrayLike, probability: npt.ArrayLike
) -> Log:
    rows = Feedback(
        np.array(context, float), np.array(arm), np.array(reward, float), np.array(probability)
    )
    return Log(np.arange(len(rows.arm)), rows)


FOUR = log_of(np.zeros((4, 1)), [0, 1, 0, 1], [1.0, 0.5, 0.0, 1.0], [0.5, 0.5, 0.8, 0.2])


def always(*p: float) -> Policy:
    return lambda context: np.tile(p, (len(context), 1))


def value(name: str, log: Log, policy: Policy, **options: Any) -> float:
    return evaluate(log, policy, rng=np.random.default_rng(0), **options)[name].value


def test_estimates_by_hand() -> None:
    # pi = (0.2, 0.8): w = 0.4, 1.6, 0.25, 4; w r = 0.4, 0.8, 0, 4
    policy, rho = always(0.2, 0.8), np.tile([0.5, 0.25], (4, 1))
    assert value("ips", FOUR, policy) == pytest.approx(5.2 / 4)
    assert value("snips", FOUR, policy) == pytest.approx(5.2 / 6.25)
    # sum_k pi rho = 0.3; w (r - rho) = 0.2, 0.4, -0.125, 3
    assert value("dr", FOUR, policy, predicted=rho) == pytest.approx(0.3 + 3.475 / 4)
    # Where rho is 0, it is IPS.
    assert value("dr", FOUR, policy, predicted=0 * rho) == pytest.approx(5.2 / 4)


def test_the_value_of_the_logging_policy_is_what_was_paid() -> None:
    log, _ = simulate(0, rows=500)
    assert value("ips", log, behaviour) == pytest.approx(log.feedback.reward.mean())


def worth(context: Floats) -> Floats:
    return np.stack([0.5 + 0.4 * context[:, 0], 0.5 - 0.4 * context[:, 0]], axis=1)


def behaviour(context: Floats) -> Floats:
    first = np.where(context[:, 0] > 0.0, 0.2, 0.7)
    return np.stack([first, 1.0 - first], axis=1)


def clever(context: Floats) -> Floats:
    best = context[:, 0] > 0.0
    return np.where(np.stack([best, ~best], axis=1), 0.9, 0.1)


TRUTH = 0.5 + 0.4 * 0.5 * (0.9 - 0.1)
"""E[sum_k pi(k|x) r_k] for x uniform in [-1, 1]."""


def simulate(seed: int, rows: int = 100) -> tuple[Log, np.random.Generator]:
    rng = np.random.default_rng([7, seed])
    context = rng.uniform(-1.0, 1.0, (rows, 1))
    p = behaviour(context)
    arm = (rng.random(rows) >= p[:, 0]).astype(int)
    each = np.arange(rows)
    reward = (rng.random(rows) < worth(context)[each, arm]).astype(float)
    return log_of(context, arm, reward, p[each, arm]), rng


def estimates(name: str, predict: Policy, logs: int = 600) -> Floats:
    out = []
    for seed in range(logs):
        log, _ = simulate(seed)
        context = log.feedback.context
        above, below = ESTIMATORS[name](log.feedback, clever(context), predict(context))
        out.append(above.sum() / below.sum())
    return np.array(out)


def nothing(context: Floats) -> Floats:
    return np.zeros((len(context), 2))


def wrong(context: Floats) -> Floats:
    return np.tile([0.9, 0.1], (len(context), 1))


def standard_errors_off(sample: Floats) -> float:
    return float(abs(sample.mean() - TRUTH) / (sample.std() / np.sqrt(len(sample))))


def test_ips_and_doubly_robust_are_unbiased_and_the_plain_mean_is_not() -> None:
    assert standard_errors_off(estimates("ips", nothing)) < 3.0
    assert standard_errors_off(estimates("dr", worth)) < 3.0
    assert standard_errors_off(estimates("dr", wrong)) < 3.0
    plain = np.array([simulate(seed)[0].feedback.reward.mean() for seed in range(600)])
    assert standard_errors_off(plain) > 10.0


def test_a_good_model_makes_doubly_robust_vary_less_than_ips() -> None:
    ips = estimates("ips", nothing).var()
    assert estimates("dr", worth).var() < 0.7 * ips
    assert estimates("snips", nothing).var() < ips


def test_the_fitted_model_is_nearly_as_good() -> None:
    out = []
    for seed in range(200):
        log, rng = simulate(seed)
        rho = cross_fitted(log, num_arms=2, rng=rng)
        above, below = ESTIMATORS["dr"](log.feedback, clever(log.feedback.context), rho)
        out.append(above.sum() / below.sum())
    assert standard_errors_off(np.array(out)) < 3.0
    assert np.var(out) < 0.8 * estimates("ips", nothing).var()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_intervals_cover_the_truth_about_95_times_in_100(name: str) -> None:
    covered = []
    for seed in range(120):
        log, rng = simulate(seed, rows=150)
        estimate = evaluate(log, clever, rng=rng, resamples=200)[name]
        assert estimate.low <= estimate.value <= estimate.high
        covered.append(estimate.low <= TRUTH <= estimate.high)
    # Binomial(120, 0.95) is below 0.87 once in 2,000 times.
    assert 0.87 <= np.mean(covered) < 1.0


def test_choices_that_were_paid_together_are_resampled_together() -> None:
    log, _ = simulate(0, rows=50)
    rows = log.feedback
    copies = {
        name: np.repeat(getattr(rows, name), 20, axis=0)
        for name in ("context", "arm", "reward", "probability")
    }
    segments = Log(np.repeat(log.round, 20), replace(rows, **copies))
    apart = Log(np.arange(1000), segments.feedback)

    def width(some: Log) -> float:
        estimate = evaluate(some, clever, rng=np.random.default_rng(0))["snips"]
        return estimate.high - estimate.low

    assert width(segments) == pytest.approx(width(log), rel=0.1)
    assert width(apart) < 0.35 * width(log)


def test_an_interval_is_reproducible() -> None:
    log, _ = simulate(0)
    first, second = (evaluate(log, clever, rng=np.random.default_rng(3)) for _ in range(2))
    assert first == second


def test_a_selector_is_evaluated_from_another_ones_log() -> None:
    rng = np.random.default_rng(0)
    selector = SELECTORS["linear-thompson"](num_arms=2, rng=rng, context_dim=1)
    selector.update(simulate(1, rows=400)[0].feedback)
    log, _ = simulate(2, rows=3000)
    states = np.random.default_rng(5).uniform(-1.0, 1.0, (20_000, 1))
    truth = (selector.probabilities(states) * worth(states)).sum(axis=1).mean()
    assert truth > 0.6
    for estimate in evaluate(log, selector.probabilities, rng=rng).values():
        assert estimate.low < truth < estimate.high


def test_policies_that_do_not_fit_the_log_are_refused() -> None:
    with pytest.raises(UserError, match="expected a row for each and a column for every arm"):
        value("ips", FOUR, always(1.0))
    with pytest.raises(UserError, match="no arm in the log"):
        value("ips", FOUR, always(0.0, 0.0, 1.0))

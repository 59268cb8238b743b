"""What a policy would have been paid, from a log of what another one chose: (x, a, r, p)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tutelage.choice_log import Log
from tutelage.errors import UserError
from tutelage.types import Feedback, Floats

Policy = Callable[[Floats], Floats]
"""``context[N,d] -> p[N,K]``, such as a selector's ``probabilities``."""


@dataclass(frozen=True)
class Estimate:
    """A mean reward per choice in [0, 1] and its 95 % interval."""

    value: float
    low: float
    high: float


Terms = tuple[Floats, Floats]
"""Two columns ``[M]``; the estimate is the sum of the first over the sum of the second."""


def ips(log: Feedback, target: Floats, predicted: Floats) -> Terms:
    """Return the terms of mean(w r), w = pi(a|x) / p (inverse propensity score; Dudik et al. 2011).

    Unbiased where p > 0 for all that pi may choose.
    """
    weight = _weight(log, target)
    return weight * log.reward, np.ones_like(weight)


def self_normalised_ips(log: Feedback, target: Floats, predicted: Floats) -> Terms:
    """Return the terms of sum(w r) / sum(w) (Swaminathan & Joachims 2015), always in [0, 1]."""
    weight = _weight(log, target)
    return weight * log.reward, weight


def doubly_robust(log: Feedback, target: Floats, predicted: Floats) -> Terms:
    """Return the terms of mean(sum_k pi(k|x) rho(x,k) + w (r - rho(x,a))) (Dudik et al. 2011).

    Unbiased if either p or rho = ``predicted[M,K]`` is right; the better rho, the less it varies.
    """
    weight = _weight(log, target)
    guess = predicted[np.arange(len(weight)), log.arm]
    return (target * predicted).sum(axis=1) + weight * (log.reward - guess), np.ones_like(weight)


def _weight(log: Feedback, target: Floats) -> Floats:
    return np.asarray(target[np.arange(len(log.arm)), log.arm] / log.probability)


def effective(log: Feedback, target: Floats) -> float:
    """Return (sum w)^2 / sum w^2, w = pi(a|x) / p: the sample size that is left (Kish 1965).

    As many choices of ``target[M,K]``'s own would estimate its mean reward as well; 0 where it
    would have made none of those in the log.
    """
    weight = _weight(log, target)
    return float(weight.sum() ** 2 / (weight**2).sum()) if weight.any() else 0.0


def mean_weight(log: Feedback, target: Floats) -> float:
    """Return mean(w), w = pi(a|x) / p: 1 on average where p > 0 for all that pi may choose.

    Below that it is the share of ``target[M,K]`` that the log covers: of the rest it says nothing.
    """
    return float(_weight(log, target).mean())


ESTIMATORS: dict[str, Callable[[Feedback, Floats, Floats], Terms]] = {
    "ips": ips,
    "snips": self_normalised_ips,
    "dr": doubly_robust,
}
"""Name -> estimator ``(log, target[M,K], predicted[M,K]) -> terms``."""


def evaluate(
    log: Log,
    policy: Policy,
    *,
    rng: np.random.Generator,
    predicted: Floats | None = None,
    resamples: int = 1000,
) -> dict[str, Estimate]:
    """Return every estimator's mean reward of ``policy``, as it is now, on the states of a log.

    The interval is a percentile bootstrap that draws whole rounds, since the choices of one segment
    are paid alike. ``predicted[M,K]`` defaults to ``cross_fitted``. Raises UserError where the log
    holds no choice that the policy would make.
    """
    target = policy(log.feedback.context)
    if target.shape[0] != len(log.round) or target.shape[1] <= log.feedback.arm.max():
        raise UserError(
            f"the policy returns shape {target.shape} for {len(log.round)} rows of arms up to "
            f"{log.feedback.arm.max()}, expected a row for each and a column for every arm"
        )
    if not _weight(log.feedback, target).any():
        raise UserError("no arm in the log is one that the policy would choose there")
    if predicted is None:
        predicted = cross_fitted(log, num_arms=target.shape[1], rng=rng)
    terms = [make(log.feedback, target, predicted) for make in ESTIMATORS.values()]
    _, unit = np.unique(log.round, return_inverse=True)
    units = int(unit.max()) + 1
    sums = np.array([[np.bincount(unit, column) for column in pair] for pair in terms])
    resampled = np.array(
        [
            sums @ np.bincount(rng.integers(units, size=units), minlength=units)
            for _ in range(resamples)
        ]
    )
    return {
        name: _estimate(sums[i].sum(axis=1), resampled[:, i]) for i, name in enumerate(ESTIMATORS)
    }


def _estimate(sums: Floats, resampled: Floats) -> Estimate:
    """Return sum over sum, from ``sums[2]`` and for the interval from ``resampled[R,2]``."""
    # A resample may miss every row that the policy would choose; it says nothing.
    above, below = resampled[resampled[:, 1] > 0.0].T
    low, high = np.quantile(above / below, (0.025, 0.975))
    return Estimate(float(sums[0] / sums[1]), float(low), float(high))


def cross_fitted(
    log: Log, *, num_arms: int, rng: np.random.Generator, folds: int = 5, penalty: float = 1.0
) -> Floats:
    """Return ``rho[M,K]``, ridge regressions of reward on [1, context] for each arm.

    Each row is predicted from other rounds than its own, in ``folds`` parts, so that the model
    has not seen the rewards that it is corrected by; held to [0, 1].
    """
    x = np.column_stack([np.ones(len(log.round)), log.feedback.context])
    _, unit = np.unique(log.round, return_inverse=True)
    fold = rng.permutation(unit.max() + 1)[unit] % folds
    predicted = np.zeros((len(x), num_arms))
    for part in range(folds):
        for arm in range(num_arms):
            seen = x[(fold != part) & (log.feedback.arm == arm)]
            paid = log.feedback.reward[(fold != part) & (log.feedback.arm == arm)]
            gram = seen.T @ seen + penalty * np.eye(x.shape[1])
            predicted[fold == part, arm] = x[fold == part] @ np.linalg.solve(gram, seen.T @ paid)
    return np.clip(predicted, 0.0, 1.0)

"""Selectors without a context: which teacher to learn from in the next round.

A policy is a pure function from the statistics of the arms that are left to a distribution over
them; most are the largest of an index. Rewards are in [0, 1]; a round is choose, learn from that
teacher, update with one row. Constructors take ``(*, num_arms, rng)`` and options of their own.
"""

import math
from functools import partial
from typing import Annotated

import numpy as np
from scipy.special import betainc, betaincinv, ndtri

from tutelage.errors import UserError
from tutelage.selectors.base import (
    Bandit,
    DistributionSelector,
    Generator,
    Positive,
    Rounds,
    by_index,
)
from tutelage.selectors.probabilities import epsilon_greedy, largest, largest_gaussian
from tutelage.selectors.statistics import Statistics, mid_rank
from tutelage.specs import Between, ProbabilitySchedule
from tutelage.types import Feedback, Floats, Ints, State


class Random(Bandit):
    """Choose uniformly: p_k = 1 / K, whatever was learnt."""

    def __init__(self, *, num_arms: int, rng: Generator) -> None:
        super().__init__(num_arms=num_arms, rng=rng, policy=lambda s: epsilon_greedy(s.count, 1.0))

    def exploit(self, context: Floats) -> Ints:
        return self.choose(context).arm


class BestFirst(Bandit):
    """Try every teacher once, then always use the one that did best: argmax_k of the first r_k.

    The paper's naive baseline (section 3.5). Where trials are given, the first r_k is their
    mid-rank among the K, so that a return of any size counts.
    """

    def __init__(self, *, num_arms: int, rng: Generator) -> None:
        super().__init__(num_arms=num_arms, rng=rng, policy=by_index(lambda s: s.mean))

    def score(self, trials: Floats) -> None:
        """Take ``trials[K]`` for the first returns; raise UserError for fewer and for NaN."""
        if trials.shape != (self.num_arms,) or np.isnan(trials).any():
            raise UserError(f"trials {trials.tolist()}, expected {self.num_arms} numbers")
        self._known = None
        for arm, reward in enumerate(mid_rank(trials, trials)):
            self._settle(arm, float(reward))

    def _settle(self, arm: int, reward: float) -> None:
        if self.statistics.count[arm] == 0.0:
            self.statistics.add(arm, reward)


def epsilon_greedy_bandit(
    *, num_arms: int, rng: Generator, epsilon: ProbabilitySchedule = lambda rounds: 0.1
) -> Bandit:
    """Choose the largest mean; with probability epsilon(rounds) uniformly (Sutton & Barto, 2.2)."""
    return Bandit(
        num_arms=num_arms, rng=rng, policy=lambda s: epsilon_greedy(s.mean, epsilon(s.rounds))
    )


class VDBE(Bandit):
    """Epsilon-greedy whose epsilon follows how much the values still change (Tokic 2010).

    f = (1 - e) / (1 + e) with e = exp(-|change of Q_k| / sigma); epsilon <- delta f + (1 - delta)
    epsilon; delta = 1 / K. Q_k is the mean reward, 0 before the first; epsilon starts at 1. A small
    sigma explores at small changes.
    """

    def __init__(self, *, num_arms: int, rng: Generator, sigma: Positive = 0.33) -> None:
        super().__init__(
            num_arms=num_arms, rng=rng, policy=lambda s: epsilon_greedy(s.mean, self.epsilon)
        )
        self.epsilon = 1.0
        self._sigma = sigma

    def _settle(self, arm: int, reward: float) -> None:
        before = self.statistics.total[arm] / max(self.statistics.count[arm], 1.0)
        super()._settle(arm, reward)
        change = abs(self.statistics.total[arm] / self.statistics.count[arm] - before)
        surprise = math.tanh(change / self._sigma / 2.0)
        self.epsilon += (surprise - self.epsilon) / self.num_arms

    def _memory(self) -> State:
        return {**super()._memory(), "epsilon": self.epsilon}

    def _recall(self, memory: State) -> None:
        super()._recall(memory)
        self.epsilon = float(memory["epsilon"])


def upper_bound(s: Statistics, scale: float) -> Floats:
    """Return x_k + sqrt(scale ln n / n_k), where n is the sum of the n_k."""
    return s.mean + np.sqrt(scale * s.log_count / s.count)


def ucb1(*, num_arms: int, rng: Generator) -> Bandit:
    """Choose the largest x_k + sqrt(2 ln n / n_k) (Auer et al. 2002, figure 1)."""
    return Bandit(num_arms=num_arms, rng=rng, policy=by_index(partial(upper_bound, scale=2.0)))


def tuned_bound(s: Statistics) -> Floats:
    """Return x_k + sqrt(ln n / n_k min(1/4, V_k)), V_k = variance_k + sqrt(2 ln n / n_k)."""
    share = s.log_count / s.count
    return s.mean + np.sqrt(share * np.minimum(0.25, s.variance + np.sqrt(2.0 * share)))


def ucb1_tuned(*, num_arms: int, rng: Generator) -> Bandit:
    """Use each arm's variance in the bound of UCB1 (Auer et al. 2002, section 4)."""
    return Bandit(num_arms=num_arms, rng=rng, policy=by_index(tuned_bound))


def discounted_ucb(
    *,
    num_arms: int,
    rng: Generator,
    discount: Annotated[float, Between(1e-6, 1.0)] = 0.99,
    xi: Positive = 0.15,
) -> Bandit:
    """Choose the largest x_k + 2 sqrt(xi ln n / n_k) of discounted statistics.

    Garivier & Moulines 2011, with B = 1; ``discount`` is their gamma. Their theorem asks for
    xi > 1/2; 0.15 makes the bound as wide as the sliding window's at 0.6.
    """
    return Bandit(
        num_arms=num_arms,
        rng=rng,
        policy=by_index(partial(upper_bound, scale=4.0 * xi)),
        statistics=Statistics(num_arms, discount=discount),
    )


def sliding_window_ucb(
    *, num_arms: int, rng: Generator, window: Rounds = 200, xi: Positive = 0.6
) -> Bandit:
    """Choose the largest x_k + sqrt(xi ln min(t, tau) / n_k) of the last tau rounds.

    Garivier & Moulines 2011, with B = 1; ``window`` is tau. A teacher that was not chosen within
    the window counts as never tried.
    """
    return Bandit(
        num_arms=num_arms,
        rng=rng,
        policy=by_index(partial(upper_bound, scale=xi)),
        statistics=Statistics(num_arms, window=window),
    )


def beta_quantile(s: Statistics) -> Floats:
    """Return the quantile 1 - 1/t of Beta(1 + S_k, 1 + n_k - S_k), where t = 1 + n."""
    level = 1.0 - 1.0 / (1.0 + s.count.sum())
    return np.asarray(betaincinv(1.0 + s.total, 1.0 + s.count - s.total, level))


def bayes_ucb_beta(*, num_arms: int, rng: Generator) -> Bandit:
    """Choose the largest quantile of the Beta posterior (Kaufmann et al. 2012, with c = 0)."""
    return Bandit(num_arms=num_arms, rng=rng, policy=by_index(beta_quantile))


def gaussian_posterior(s: Statistics, noise: float) -> tuple[Floats, Floats]:
    """Return mean and sd of each N(mean, sd^2); ``noise`` is a reward's sd, at most 1/2 in [0, 1].

    The prior is N(1/2, 1/4): precision = 4 + n_k / noise^2, mean = (2 + S_k / noise^2) / precision.
    """
    precision = 4.0 + s.count / noise**2
    return (2.0 + s.total / noise**2) / precision, precision**-0.5


def gaussian_quantile(s: Statistics, noise: float) -> Floats:
    """Return the quantile 1 - 1/t of the Gaussian posterior, where t = 1 + n."""
    mean, sd = gaussian_posterior(s, noise)
    return mean + sd * float(ndtri(1.0 - 1.0 / (1.0 + s.count.sum())))


def bayes_ucb_gaussian(*, num_arms: int, rng: Generator, noise: Positive = 0.5) -> Bandit:
    """Choose the largest quantile of the Gaussian posterior (Kaufmann et al. 2012, with c = 0)."""
    index = partial(gaussian_quantile, noise=noise)
    return Bandit(num_arms=num_arms, rng=rng, policy=by_index(index))


def beta_chances(s: Statistics) -> Floats:
    """Return P(theta_k is the largest) for theta_k ~ Beta(1 + S_k, 1 + n_k - S_k)."""
    a, b = 1.0 + s.total[:, None], 1.0 + (s.count - s.total)[:, None]
    mean = a / (a + b)
    reach = 5.0 * np.sqrt(mean * (1.0 - mean) / (a + b + 1.0))
    low, high = np.maximum(mean - reach, 0.0), np.minimum(mean + reach, 1.0)
    (chances,) = largest(lambda x: np.asarray(betainc(a[:, None], b[:, None], x)), low, high)
    return np.asarray(chances)


def thompson_beta(*, num_arms: int, rng: Generator) -> Bandit:
    """Choose each arm as often as it is the best a posteriori (Thompson 1933).

    A reward r counts as 1 with probability r, else as 0 (Agrawal & Goyal 2012, algorithm 2).
    """
    return Bandit(num_arms=num_arms, rng=rng, policy=beta_chances, binary=True)


def gaussian_chances(s: Statistics, noise: float) -> Floats:
    """Return P(theta_k is the largest) for theta_k of the Gaussian posterior."""
    mean, sd = gaussian_posterior(s, noise)
    (chances,) = largest_gaussian(mean[None], sd[None])
    return np.asarray(chances)


def thompson_gaussian(*, num_arms: int, rng: Generator, noise: Positive = 0.5) -> Bandit:
    """Choose each arm as often as it is the best under the Gaussian posterior (Thompson 1933)."""
    policy = partial(gaussian_chances, noise=noise)
    return Bandit(num_arms=num_arms, rng=rng, policy=policy)


class Exp3(DistributionSelector):
    """Exponential weights against an adversary (Auer et al. 2002b, figure 1 and section 8).

    p_k = (1 - gamma) w_k / W + gamma / K with W = sum_j w_j; after reward r of arm k,
    w_k <- w_k exp(gamma r / (p_k K)), and every w_j <- w_j + e alpha W / K. Kept as logarithms.
    """

    def __init__(self, *, num_arms: int, rng: Generator, gamma: float, alpha: float = 0.0) -> None:
        super().__init__(num_arms=num_arms, rng=rng)
        self._gamma = gamma
        self._log_share = math.log(math.e * alpha / num_arms) if alpha else -math.inf
        self._log_weight: Floats = np.zeros(num_arms)

    def _distribution(self, context: Floats, arms: Ints) -> Floats:
        weight: Floats = np.exp(self._log_weight[None, arms] - self._log_weight[arms].max())
        return (1.0 - self._gamma) * weight / float(weight.sum()) + self._gamma / len(arms)

    def _worth(self, context: Floats, arms: Ints) -> Floats:
        return self._log_weight[None, arms]

    def _learn(self, feedback: Feedback) -> None:
        rewards = self._gamma / self.num_arms * feedback.reward / feedback.probability
        for arm, reward in zip(feedback.arm, rewards, strict=True):
            share = self._log_share + np.logaddexp.reduce(self._log_weight[self._left])
            self._log_weight[arm] += reward
            self._log_weight = np.logaddexp(self._log_weight, share)
            # The distribution depends on the differences alone; this keeps them exact.
            self._log_weight -= self._log_weight.max()

    def _memory(self) -> State:
        return {"log_weight": self._log_weight.copy()}

    def _recall(self, memory: State) -> None:
        self._log_weight = np.asarray(memory["log_weight"], np.float64).copy()


def exp3(*, num_arms: int, rng: Generator, horizon: Rounds = 1000) -> Exp3:
    """Tune gamma for ``horizon`` rounds: min(1, sqrt(K ln K / ((e - 1) T))) (corollary 3.2)."""
    arms = max(1, num_arms)
    gamma = math.sqrt(arms * math.log(arms) / ((math.e - 1.0) * horizon))
    return Exp3(num_arms=num_arms, rng=rng, gamma=min(1.0, gamma))


def exp3_s(*, num_arms: int, rng: Generator, horizon: Rounds = 1000, segments: Rounds = 5) -> Exp3:
    """Follow a best arm that changes S - 1 times, S = ``segments``: alpha = 1 / T (corollary 8.3).

    gamma = min(1, sqrt(K (S ln(K T) + e) / ((e - 1) T))).
    """
    arms = max(1, num_arms)
    switching = segments * math.log(arms * horizon)
    gamma = math.sqrt(arms * (switching + math.e) / ((math.e - 1.0) * horizon))
    return Exp3(num_arms=num_arms, rng=rng, gamma=min(1.0, gamma), alpha=1.0 / horizon)

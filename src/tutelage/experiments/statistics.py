"""Methods compared with few seeds: by their scores, and by the env steps they need to a target.

Scores come as rliable has them (Agarwal et al. 2021, "Deep reinforcement learning at the edge of
the statistical precipice"): method -> ``[runs, tasks]``, more is better. Env steps to a target are
right-censored where the budget was spent before: all that is known of such a run is that it would
have taken longer. Intervals are of 95 %, and the same data give the same interval.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import stats

from tutelage.types import Floats, seeded

Scores = Mapping[str, Floats]
"""Method -> ``[runs, tasks]``; methods may have run differently often, on the same tasks."""

CONFIDENCE = 0.95
RESAMPLES = 2_000
SPLITS = 1_000
"""Up to so many ways of dealing out runs the log-rank test looks at each (six against six: 924)."""


@dataclass(frozen=True)
class Interval:
    """A figure and its interval."""

    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        if not math.isfinite(self.high - self.low):
            return f"{self.middle:.2f}"
        return f"{self.middle:.2f} ({self.low:.2f} … {self.high:.2f})"


@dataclass(frozen=True)
class Ratio(Interval):
    """A ratio of env steps, in which a missed target counts as the env steps spent."""

    at_least: bool
    """A run above the line missed the target: the true ratio is larger."""
    at_most: bool
    """A run below the line missed the target: the true ratio is smaller."""

    @property
    def inverse(self) -> "Ratio":
        """The same of theirs over ours."""
        return Ratio(
            1.0 / self.middle,
            1.0 / self.high if self.high else math.inf,
            1.0 / self.low if self.low else math.inf,
            at_least=self.at_most,
            at_most=self.at_least,
        )

    def __str__(self) -> str:
        """Show no end of the interval that a missed target leaves unknown."""
        if not (self.at_least or self.at_most):
            return super().__str__()
        if self.at_least and self.at_most:
            return f"~ {self.middle:.2f}"
        sign, ends = ("≥", f"{self.low:.2f} …") if self.at_least else ("≤", f"… {self.high:.2f}")
        return f"{sign} {self.middle:.2f}" + f" ({ends})" * math.isfinite(self.high - self.low)


@dataclass(frozen=True)
class Profile:
    """A share at each threshold, and its pointwise interval."""

    share: Floats
    """``[T]``."""
    low: Floats
    """``[T]``."""
    high: Floats
    """``[T]``."""


@dataclass(frozen=True)
class Spent:
    """Env steps of runs: to the target, or all that were spent without reaching it."""

    steps: Floats
    """``[N]``."""
    reached: npt.NDArray[np.bool_]
    """``[N]``; where False, the run is right-censored."""

    @classmethod
    def of(cls, steps: Sequence[float | None], budget: float | Sequence[float]) -> "Spent":
        """Return what runs spent that reached the target after ``steps``, or had a ``budget``."""
        budgets = np.broadcast_to(np.asarray(budget, np.float64), len(steps))
        spent = [b if s is None else s for s, b in zip(steps, budgets, strict=True)]
        return cls(np.array(spent, np.float64), np.array([s is not None for s in steps], np.bool_))

    @property
    def censored(self) -> stats.CensoredData:
        """Return them as SciPy has them."""
        return stats.CensoredData(
            uncensored=self.steps[self.reached], right=self.steps[~self.reached]
        )


# Scores.


def iqm(scores: Scores) -> dict[str, Interval]:
    """Return the interquartile mean of each method: the mean of the middle half of its scores.

    IQM = mean of x_(i), i = n/4 + 1 … 3n/4, over the n = runs x tasks scores in ascending order
    (a quarter is rounded down). Agarwal et al. 2021, section 4.3; the interval is of their
    stratified bootstrap, section 4.1: runs are drawn anew within each task.
    """
    return {method: _iqm(x) for method, x in scores.items()}


def _iqm(x: Floats) -> Interval:
    runs, tasks = x.shape
    index = _rng("iqm").integers(runs, size=(RESAMPLES, runs, tasks))
    drawn = np.take_along_axis(x[None], index, axis=1).reshape(RESAMPLES, -1)
    low, high = _quantiles(stats.trim_mean(drawn, 0.25, axis=1))
    return Interval(float(stats.trim_mean(x, 0.25, axis=None)), float(low), float(high))


def probability_of_improvement(scores: Scores, method: str, over: str) -> Interval:
    """Return how probable it is that a run of ``method`` scores more than one of ``over``.

    P(X > Y) = mean over tasks of the mean over pairs (i, j) of [x_i > y_j] + [x_i = y_j] / 2, which
    is Mann and Whitney's U / (n m). Agarwal et al. 2021, section 4.3; the interval is of the
    stratified bootstrap, both methods drawn anew. It is too narrow with few runs: of three on each
    side that do not overlap it is 1 … 1.
    """
    x, y = scores[method], scores[over]
    return _won((x[:, None] > y) + 0.5 * (x[:, None] == y))


def _won(wins: Floats) -> Interval:
    """Return the share of pairs won, ``wins[runs of X, runs of Y, tasks]`` in [0, 1]."""
    rng = _rng("probability of improvement")
    mine, other = (_weights(rng, (runs, wins.shape[2])) for runs in wins.shape[:2])
    low, high = _quantiles(np.einsum("bik,bjk,ijk->bk", mine, other, wins).mean(axis=1))
    return Interval(float(wins.mean()), float(low), float(high))


def performance_profiles(scores: Scores, taus: Floats) -> dict[str, Profile]:
    """Return for each method which share of its runs x tasks scores more than each tau ``[T]``.

    F(tau) = mean over tasks of the mean over runs of [x > tau]: the score distribution of Agarwal
    et al. 2021, section 4.2, after Dolan and Moré 2002. The band is pointwise, by the stratified
    bootstrap: of all T intervals together some will miss.
    """
    return {method: _profile(x, taus) for method, x in scores.items()}


def _profile(x: Floats, taus: Floats) -> Profile:
    above = (x[..., None] > taus).astype(np.float64)  # [runs, tasks, T]
    weights = _weights(_rng("profile"), x.shape)
    low, high = _quantiles(np.einsum("bik,ikt->bt", weights, above) / x.shape[1])
    return Profile(above.mean(axis=(0, 1)), low, high)


def _weights(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Return ``[B, runs, tasks]``: how often each run is drawn within its task, as a share."""
    runs, tasks = shape
    drawn = rng.multinomial(runs, np.full(runs, 1.0 / runs), size=(RESAMPLES, tasks))
    return np.moveaxis(drawn, 1, 2) / runs


# Env steps.


def faster(ours: Spent, theirs: Spent) -> Interval:
    """Return how probable it is that a run of ``ours`` takes fewer env steps than of ``theirs``.

    As ``probability_of_improvement``, of pairs of runs by Gehan 1965: one that reached the target
    is faster than one that reached it later, or spent as much without reaching it. Any other pair
    ties, since nobody knows how long the missed ones would have taken.
    """
    return _won((0.5 + (_sooner(ours, theirs) - _sooner(theirs, ours).T) / 2.0)[..., None])


def _sooner(a: Spent, b: Spent) -> Floats:
    """Return 1 for each pair of runs ``[of a, of b]`` whose first surely took fewer env steps."""
    at, other = a.steps[:, None], b.steps[None]
    known: Floats = np.where((at < other) | ((at == other) & ~b.reached), a.reached[:, None], 0.0)
    return known


def log_rank(ours: Spent, theirs: Spent) -> float:
    """Return the two-sided p-value of the log-rank test: that both need the same env steps.

    Z = sum_i (d_1i - n_1i d_i / n_i) / sqrt(sum_i n_1i n_2i d_i (n_i - d_i) / (n_i^2 (n_i - 1)))
    over the env steps at which d_i of n_i runs reach the target, d_1i of n_1i of ``ours``: Mantel
    1966, Peto and Peto 1972. With few runs Z is far from normal, so |Z| is compared with that of
    all ways of dealing the runs out to the two sides, as long as these are at most ``SPLITS``: the
    least p of three runs against three is then 0.1.
    """
    size, runs = len(ours.steps), len(ours.steps) + len(theirs.steps)
    if math.comb(runs, size) > SPLITS:
        return float(stats.logrank(ours.censored, theirs.censored).pvalue)
    steps = np.concatenate([ours.steps, theirs.steps])[:, None]
    reached = np.concatenate([ours.reached, theirs.reached])[:, None]
    at = np.unique(steps[reached])
    under_way, arrives = steps >= at, reached & (steps == at)  # [runs, T]
    n, d = under_way.sum(axis=0), arrives.sum(axis=0)
    # The first is the split that there is.
    mine = np.array([np.isin(range(runs), split) for split in combinations(range(runs), size)])
    n_1, d_1 = (mine.astype(np.float64) @ x for x in (under_way, arrives))  # [splits, T]
    surplus = np.abs((d_1 - n_1 * d / n).sum(axis=1))
    variance = (n_1 * (n - n_1) * d * (n - d) / (n**2 * np.maximum(n - 1, 1))).sum(axis=1)
    z = surplus / np.sqrt(np.where(variance > 0.0, variance, np.inf))
    return float((z >= z[0] - 1e-9).mean())


def ratio(ours: Spent, theirs: Spent) -> Ratio:
    """Return how many times the env steps of ``theirs`` ``ours`` took: a ratio of geometric means.

    exp of ``difference`` of the logarithms. A missed target counts as the env steps spent, so that
    with one among ``ours`` the ratio is a lower bound, and with one among ``theirs`` an upper one.
    """
    logs = difference(np.log(ours.steps), np.log(theirs.steps))
    return Ratio(
        math.exp(logs.middle),
        math.exp(logs.low),
        math.exp(logs.high),
        at_least=not ours.reached.all(),
        at_most=not theirs.reached.all(),
    )


def difference(ours: Sequence[float] | Floats, theirs: Sequence[float] | Floats) -> Interval:
    """Return by how much the mean of ``ours [N]`` is above that of ``theirs [M]``.

    mean(x) - mean(y) ± t(nu) sqrt(s_x^2 / N + s_y^2 / M), nu by Satterthwaite: Welch 1947. It keeps
    its 95 % with three numbers on each side, where a bootstrap's percentiles hold about 80 %; with
    many the two agree. Of a single number nothing can be said: -inf … inf.
    """
    x, y = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    middle = float(x.mean() - y.mean())
    if min(len(x), len(y)) < 2:
        return Interval(middle, -math.inf, math.inf)
    a, b = (float(v.var(ddof=1)) / len(v) for v in (x, y))
    if a + b == 0.0:
        return Interval(middle, middle, middle)
    nu = (a + b) ** 2 / (a**2 / (len(x) - 1) + b**2 / (len(y) - 1))
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2.0, nu)) * math.sqrt(a + b)
    return Interval(middle, middle - half, middle + half)


def _rng(name: str) -> np.random.Generator:
    return np.random.default_rng(seeded(0, name))


def _quantiles(drawn: Floats) -> Floats:
    """Return the interval ``[2, …]`` of what was drawn anew ``[B, …]`` (Efron 1979)."""
    tail = (1.0 - CONFIDENCE) / 2.0
    found: Floats = np.quantile(drawn, [tail, 1.0 - tail], axis=0)
    return found

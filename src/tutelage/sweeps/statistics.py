"""Methods compared with few seeds: by their scores, and by the env steps they need to a target.

Scores come as rliable has them (Agarwal et al. 2021, "Deep reinforcement learning at the edge of
the statistical precipice"): ``[runs, tasks]`` of each method, more is better. Env steps to a target
are right-censored where the budget was spent before: all that is known of such a run is that it
would have taken longer. Intervals are of 95 %, and the same data give the same interval.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy import stats

from tutelage.types import Floats, seeded

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

    def narrowed(self, times: float) -> Self:
        """Return the interval there would be of so many ``times`` the data, were all else equal."""
        low, high = (
            self.middle + (end - self.middle) / math.sqrt(times) for end in (self.low, self.high)
        )
        return replace(self, low=low, high=high)

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

    def narrowed(self, times: float) -> Self:
        low, high = (
            self.middle * (end / self.middle) ** (1.0 / math.sqrt(times))
            for end in (self.low, self.high)
        )
        return replace(self, low=low, high=high)

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


def iqm(scores: Floats) -> Interval:
    """Return the interquartile mean of ``scores [runs, tasks]``: that of their middle half.

    IQM = mean of x_(i), i = n/4 + 1 … 3n/4, over the n = runs x tasks scores in ascending order
    (a quarter is rounded down). Agarwal et al. 2021, section 4.3; the interval is of their
    stratified bootstrap, section 4.1: runs are drawn anew within each task.
    """

    def middle_half(*tasks: Floats, axis: int) -> Floats:
        mean: Floats = stats.trim_mean(np.concatenate(tasks, axis=axis), 0.25, axis=axis)
        return mean

    low, high = _drawn_anew(scores, middle_half)
    return Interval(float(stats.trim_mean(scores, 0.25, axis=None)), float(low), float(high))


def profile(scores: Floats, taus: Floats) -> tuple[Floats, Floats, Floats]:
    """Return which share of ``scores [runs, tasks]`` is above each tau ``[T]``, and its band.

    F(tau) = mean over tasks of the mean over runs of [x > tau]: the score distribution of Agarwal
    et al. 2021, section 4.2, after Dolan and Moré 2002. The band, low and high, is pointwise, by
    the stratified bootstrap: of all T intervals together some will miss.
    """

    def share(*tasks: Floats, axis: int) -> Floats:
        mean: Floats = np.mean([task.mean(axis=axis) for task in tasks], axis=0)
        return mean

    above = (scores[..., None] > taus).astype(np.float64)
    low, high = _drawn_anew(above, share)
    return above.mean(axis=(0, 1)), low, high


def _drawn_anew(runs: Floats, statistic: object) -> tuple[Floats, Floats]:
    """Return the percentile interval of a statistic of ``runs [runs, tasks, …]`` (Efron 1979)."""
    if len(runs) == 1:
        (only,) = runs
        value = statistic(*(task[None] for task in only), axis=0)  # type: ignore[operator]
        return value, value
    found = stats.bootstrap(
        tuple(np.moveaxis(runs, 1, 0)),
        statistic,
        axis=0,
        n_resamples=RESAMPLES,
        batch=250,
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seeded(0, "bootstrap")),
    )
    return found.confidence_interval.low, found.confidence_interval.high


def faster(ours: Spent, theirs: Spent) -> float:
    """Return how probable it is that a run of ``ours`` takes fewer env steps than of ``theirs``.

    The share of pairs of runs won, by Gehan 1965: one that reached the target is faster than one
    that reached it later, or spent as much without reaching it. Any other pair ties and counts
    half, since nobody knows how long the missed ones would have taken.
    """
    won, lost = (_sooner(ours, theirs).astype(float), _sooner(theirs, ours).T.astype(float))
    return float((0.5 + (won - lost) / 2.0).mean())


def _sooner(a: Spent, b: Spent) -> npt.NDArray[np.bool_]:
    """Return for each pair of runs, ``[of a, of b]``, whether the first surely took fewer."""
    at, other = a.steps[:, None], b.steps[None]
    known: npt.NDArray[np.bool_] = (at < other) | ((at == other) & ~b.reached)
    return a.reached[:, None] & known


def log_rank(ours: Spent, theirs: Spent) -> float:
    """Return the two-sided p-value of the log-rank test: that both need the same env steps.

    Z = sum_i (d_1i - n_1i d_i / n_i) / sqrt(sum_i n_1i n_2i d_i (n_i - d_i) / (n_i^2 (n_i - 1)))
    over the env steps at which d_i of n_i runs reach the target, d_1i of n_1i of ``ours``: Mantel
    1966, Peto and Peto 1972. With few runs Z is far from normal, so |Z| is compared with that of
    all ways of dealing the runs out to the two sides, as long as these are at most ``SPLITS``: the
    least p of three runs against three is then 0.1. A single run on either side says nothing: 1.
    """
    size, runs = len(ours.steps), len(ours.steps) + len(theirs.steps)
    if min(size, runs - size) < 2:
        return 1.0
    if math.comb(runs, size) > SPLITS:
        return float(stats.logrank(ours.censored, theirs.censored).pvalue)
    steps = np.concatenate([ours.steps, theirs.steps])[:, None]
    reached = np.concatenate([ours.reached, theirs.reached])[:, None]
    at = np.unique(steps[reached])
    under_way, arrives = steps >= at, reached & (steps == at)  # [runs, T]
    n, d = under_way.sum(axis=0), arrives.sum(axis=0)

    def z(mine: npt.NDArray[np.int64], others: npt.NDArray[np.int64], axis: int) -> Floats:
        n_1, d_1 = under_way[mine].sum(axis=-2), arrives[mine].sum(axis=-2)  # [splits, T]
        surplus = np.abs((d_1 - n_1 * d / n).sum(axis=-1))
        variance = (n_1 * (n - n_1) * d * (n - d) / (n**2 * np.maximum(n - 1, 1))).sum(axis=-1)
        # What differs by rounding alone is equal.
        found: Floats = np.round(surplus / np.sqrt(np.where(variance > 0.0, variance, np.inf)), 9)
        return found

    sides = np.arange(size), np.arange(size, runs)
    found = stats.permutation_test(
        sides, z, n_resamples=SPLITS, vectorized=True, axis=-1, alternative="greater"
    )
    return float(found.pvalue)


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

    With Welch's t interval (1947): it keeps its 95 % with three numbers on each side, where a
    bootstrap's percentiles hold about 80 %; with many the two agree. Of a single number nothing can
    be said: -inf … inf.
    """
    x, y = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    middle = float(x.mean() - y.mean())
    if min(len(x), len(y)) < 2:
        return Interval(middle, -math.inf, math.inf)
    if not x.var() + y.var():
        return Interval(middle, middle, middle)
    with warnings.catch_warnings(action="ignore"):  # SciPy's, of a side that does not vary
        found = stats.ttest_ind(x, y, equal_var=False).confidence_interval(CONFIDENCE)
    return Interval(middle, float(found.low), float(found.high))


def seeds_to_find(apart: float, spread: float, *, power: float = 0.8) -> int:
    """Return the seeds a side by which two means ``apart`` are told apart at 5 %, two-sided.

    n = 2 ((z_0.975 + z_power) spread / apart)^2, of normal numbers of standard deviation
    ``spread`` (Cohen 1988, section 2.4).
    """
    z = float(stats.norm.ppf(0.5 + CONFIDENCE / 2.0) + stats.norm.ppf(power))
    return math.ceil(2.0 * (z * spread / apart) ** 2)


def median(steps: Sequence[float | None]) -> float | None:
    """Return the median of ``steps``, where None took longer than all others; None if it does."""
    middle = float(np.median([math.inf if value is None else value for value in steps]))
    return middle if math.isfinite(middle) else None

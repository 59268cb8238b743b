"""Env steps to a target and returns, compared with few seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tutelage.types import seeded

Steps = Sequence[float | None]
"""Env steps to the target by seed; None where the budget was spent before."""


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval."""

    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.low:.2f} … {self.high:.2f})"


@dataclass(frozen=True)
class Ratio(Interval):
    """A ratio of env steps, where missed targets count as the budget."""

    at_least: bool
    """A run above the line missed the target: the true ratio is larger."""
    at_most: bool
    """A run below the line missed the target: the true ratio is smaller."""

    def __str__(self) -> str:
        bound = {(True, False): "≥ ", (False, True): "≤ ", (True, True): "~ "}
        return bound.get((self.at_least, self.at_most), "") + super().__str__()


def ratio(ours: Steps, theirs: Steps, *, budget: float, resamples: int = 10_000) -> Ratio:
    """Return how many times the steps of ``theirs`` ``ours`` took.

    The ratio of geometric means, by bootstrap of the seeds of each (stratified, seeded). A missed
    target counts as the budget, so that with one among ``ours`` the ratio is a lower bound, and
    with one among ``theirs`` an upper one.
    """
    mine, other = (np.log([budget if s is None else s for s in x]) for x in (ours, theirs))
    middle, low, high = map(math.exp, _difference(mine, other, resamples))
    return Ratio(middle, low, high, None in ours, None in theirs)


def difference(ours: Sequence[float], theirs: Sequence[float], resamples: int = 10_000) -> Interval:
    """Return by how much the mean of ``ours`` is above that of ``theirs`` (bootstrap, seeded)."""
    return Interval(*_difference(np.asarray(ours), np.asarray(theirs), resamples))


def _difference(
    ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64], resamples: int
) -> tuple[float, float, float]:
    """Return the difference of means and its interval, each side resampled on its own."""
    rng = np.random.default_rng(seeded(0, "difference"))
    drawn = [x[rng.integers(len(x), size=(resamples, len(x)))].mean(axis=1) for x in (ours, theirs)]
    low, high = np.quantile(drawn[0] - drawn[1], [0.025, 0.975])
    return float(ours.mean() - theirs.mean()), float(low), float(high)

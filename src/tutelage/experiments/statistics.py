"""Env steps to a target, compared with few seeds; a missed one is censored at its budget."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tutelage.types import seeded

Steps = Sequence[float | None]
"""Env steps to the target by seed; None where the budget was spent before."""


@dataclass(frozen=True)
class Ratio:
    """A ratio of env steps and its interval."""

    middle: float
    low: float
    high: float
    at_least: bool
    """A run missed the target, so that the ratio is a lower bound."""

    def verdict(self, within: float) -> str:
        """Return whether the ratio is at most ``within``: holds, does not hold, not settled."""
        if self.low > within:
            return "does not hold"
        if self.high <= within and not self.at_least:
            return "holds"
        return "not settled"

    def __str__(self) -> str:
        bound = "≥ " if self.at_least else ""
        return f"{bound}{self.middle:.2f} ({self.low:.2f} … {self.high:.2f})"


def ratio(ours: Steps, theirs: Steps, *, budget: float, resamples: int = 10_000) -> Ratio:
    """Return how many times the steps of ``theirs`` ``ours`` took, with a 95 % interval.

    The ratio of geometric means, by bootstrap of the seeds of each (stratified, seeded). A missed
    target counts as the budget, so that with one among ``ours`` the ratio is a lower bound.
    """
    rng = np.random.default_rng(seeded(0, "ratio"))
    logs = [np.log([budget if s is None else s for s in steps]) for steps in (ours, theirs)]
    drawn = [log[rng.integers(len(log), size=(resamples, len(log)))].mean(axis=1) for log in logs]
    low, high = np.exp(np.quantile(drawn[0] - drawn[1], [0.025, 0.975]))
    middle = float(np.exp(logs[0].mean() - logs[1].mean()))
    return Ratio(middle, float(low), float(high), None in ours)

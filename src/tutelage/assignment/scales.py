"""How numbers of any size are put on [0, 1], where rewards of selectors are."""

from collections import deque
from typing import Protocol

import numpy as np

from tutelage.errors import UserError
from tutelage.selectors.statistics import mid_rank
from tutelage.types import Floats, State

WINDOW = 200
"""How many numbers are compared, where no range of them is known."""


class Scale(Protocol):
    """Puts numbers on [0, 1], the larger the higher."""

    def __call__(self, values: Floats) -> Floats:
        """Return ``values[M]`` on [0, 1]."""

    def state(self) -> State: ...
    def restore(self, state: State) -> None: ...


class KnownRange:
    """Puts numbers of a known range there: u(x) = (x - low) / (high - low)."""

    def __init__(self, low: float, high: float) -> None:
        self._low, self._high = low, high

    def __call__(self, values: Floats) -> Floats:
        """Return ``values[M]`` on [0, 1]; raise UserError for one outside of the range."""
        for value in values:
            if not self._low <= value <= self._high:
                raise UserError(
                    f"{value:g} is outside of [{self._low:g}, {self._high:g}]: "
                    "name a return_range that holds all returns"
                )
        return (values - self._low) / (self._high - self._low)

    def state(self) -> State:
        return {}

    def restore(self, state: State) -> None:
        pass


class Ranks:
    """Puts numbers there by their mid-rank among the latest W, themselves included.

    u(x) = (1/n) sum_j (1[x_j < x] + 1[x_j = x] / 2), n <= W; numbers given together are ranked
    together. Neither the unit of rewards nor one very bad return matters, and no range has to be
    known. If R_k is what teacher k returns and R what was returned lately, E[u] is
    P(R_k > R) + P(R_k = R) / 2: at any time a teacher whose returns are stochastically larger is
    paid more. The more the better ones are chosen, the more those are what others are held against.
    """

    def __init__(self, window: int = WINDOW) -> None:
        self._latest: deque[float] = deque(maxlen=window)

    def __call__(self, values: Floats) -> Floats:
        """Return ``values[M]`` on [0, 1]; raise UserError for NaN."""
        if np.isnan(values).any():
            raise UserError(f"returns {values.tolist()}: expected numbers")
        self._latest.extend(values.tolist())
        return mid_rank(values, np.array(self._latest))

    def state(self) -> State:
        return {"latest": np.array(self._latest, np.float64)}

    def restore(self, state: State) -> None:
        self._latest.clear()
        self._latest.extend(np.asarray(state["latest"], np.float64).tolist())

"""What is counted of each arm: how often it was chosen and what that was paid."""

from collections import deque

import numpy as np

from tutelage.types import Floats, Ints, State


def mid_rank(values: Floats, among: Floats) -> Floats:
    """Return u_i = (1/n) sum_j (1[a_j < v_i] + 1[a_j = v_i] / 2), ``[M]``.

    For each of ``values[M]`` the share of the sample ``among[n]`` that is below, ties split: over
    the sample itself its mean is 1/2 (the ridit of Bross 1958).
    """
    order = np.sort(among)
    below, up_to = (np.searchsorted(order, values, side) for side in ("left", "right"))
    return np.asarray((below + up_to) / (2.0 * len(order)))


class Statistics:
    """Count n_k, sum and sum of squares of each arm's rewards, ``[K]``.

    Each round multiplies all earlier ones by ``discount``; or, with a ``window``, only that many
    latest rounds count.
    """

    def __init__(self, num_arms: int, *, discount: float = 1.0, window: int | None = None) -> None:
        self.rounds = 0
        self.count, self.total, self.squares = np.zeros((3, num_arms))
        self._discount = discount
        self._recent: deque[tuple[int, float]] = deque(maxlen=window)

    @property
    def mean(self) -> Floats:
        return self.total / self.count

    @property
    def variance(self) -> Floats:
        return np.maximum(self.squares / self.count - self.mean**2, 0.0)

    @property
    def log_count(self) -> float:
        """The logarithm of the sum of counts; discounted without an arm, that can be below 1."""
        return float(np.log(max(1.0, self.count.sum())))

    def add(self, arm: int, reward: float) -> None:
        """Count one round."""
        self.rounds += 1
        for sums in (self.count, self.total, self.squares):
            sums *= self._discount
        if self._recent.maxlen is not None:
            if len(self._recent) == self._recent.maxlen:
                self._count(*self._recent[0], sign=-1.0)
            self._recent.append((arm, reward))
        self._count(arm, reward, sign=1.0)

    def _count(self, arm: int, reward: float, sign: float) -> None:
        self.count[arm] += sign
        self.total[arm] += sign * reward
        self.squares[arm] += sign * reward**2

    def only(self, arms: Ints) -> "Statistics":
        """Return the statistics of some arms, as if there were no others."""
        if len(arms) == len(self.count):
            return self
        part = Statistics(0)
        part.rounds = self.rounds
        part.count, part.total = self.count[arms], self.total[arms]
        part.squares = self.squares[arms]
        return part

    def state(self) -> State:
        return {
            "rounds": self.rounds,
            "sums": np.stack([self.count, self.total, self.squares]),
            "recent": [list(pair) for pair in self._recent],
        }

    def restore(self, state: State) -> None:
        self.rounds = int(state["rounds"])
        self.count, self.total, self.squares = np.asarray(state["sums"], np.float64).copy()
        self._recent.clear()
        self._recent.extend((int(arm), float(reward)) for arm, reward in state["recent"])

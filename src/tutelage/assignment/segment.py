"""A teacher for each segment in each environment, chosen without a context."""

from collections.abc import Mapping

import numpy as np

from tutelage.assignment.base import BySegment
from tutelage.assignment.choices import Choices
from tutelage.assignment.credit import Credit
from tutelage.assignment.protocol import NO_CONTEXT, Arms, Mask
from tutelage.types import Array, Feedback, Floats, Ints, Selector, State, restored


def not_worse(count: Floats, total: Floats, left: Ints, z: float = 1.645) -> Mask:
    """Return which teachers ``[K]`` are not shown to be worse than the best one that is left.

    With n = ``count[K]`` rewards of sum S = ``total[K]``, under Beta(1 + S_k, 1 + n_k - S_k) for
    each, teacher k is eliminated where the means differ by more than z standard deviations of their
    difference: 5 % for one pair. (Successive elimination, Even-Dar et al. 2006, with posteriors
    instead of Hoeffding's bound.)
    """
    a, b = 1.0 + total, 1.0 + count - total
    mean = a / (a + b)
    variance = mean * (1.0 - mean) / (a + b + 1.0)
    best = left[mean[left].argmax()]
    return np.asarray(mean[best] - mean <= z * np.sqrt(variance + variance[best]))


class PerSegment(BySegment):
    """Choose a teacher where a segment begins; all of the segment is paid what it is worth."""

    def __init__(
        self,
        selector: Selector,
        *,
        names: tuple[str, ...],
        credit: Credit,
        num_envs: int,
        pay_all: bool = False,
    ) -> None:
        super().__init__(selector, names=names, credit=credit, num_envs=num_envs, pay_all=pay_all)
        self._arm = np.zeros(num_envs, np.int64)
        self._probability = np.ones(num_envs)
        # Not the selector's own statistics: those of thompson-beta are rounded to 0 and 1 by draws,
        # those of a window or a discount forget, and exp3 or one from outside may keep none.
        self._count, self._total = np.zeros((2, len(names)))

    def _open(self, fresh: Mask) -> None:
        for i in np.flatnonzero(fresh):
            self._choose(int(i))

    def _choose(self, i: int) -> None:
        if self._paying[i]:
            choice = self.selector.choose(NO_CONTEXT)
            self._arm[i], self._probability[i] = choice.arm[0], choice.probability[0]
        else:
            self._arm[i], self._probability[i] = self.selector.exploit(NO_CONTEXT)[0], 1.0

    def arms(self, obs: Array) -> Arms:
        self._require_begun()
        return self._arm.copy()

    def _note(self) -> Arms:
        return self._arm

    def _close(self, i: int) -> Choices:
        return Choices([NO_CONTEXT[0]], [int(self._arm[i])], [float(self._probability[i])])

    def settle(self) -> Mapping[int, Feedback]:
        settled = super().settle()
        for segment in settled.values():
            self._count[segment.arm] += 1.0
            self._total[segment.arm] += segment.reward
        return settled

    def trust(self, obs: Array, arm: Arms) -> Floats | None:
        """Trust the teachers that are not shown to be worse than the best."""
        return not_worse(self._count, self._total, self.selector.left)[arm].astype(np.float64)

    def drop(self, arm: int, reason: str) -> None:
        super().drop(arm, reason)
        for i in np.flatnonzero(self._arm == arm):
            self._choose(int(i))

    def state(self) -> State:
        return {
            **super().state(),
            "arm": self._arm.copy(),
            "probability": self._probability.copy(),
            "paid": np.stack([self._count, self._total]),
        }

    def restore(self, state: State) -> None:
        super().restore(state)
        self._arm = restored(state["arm"], self._arm)
        self._probability = restored(state["probability"], self._probability)
        self._count, self._total = restored(state["paid"], np.stack([self._count, self._total]))

"""What a person may add from outside of the package: two selectors, by ``tests.outside:NAME``."""

from typing import Annotated

import numpy as np

from tutelage.selectors.base import Bandit, ContextualSelector, Generator
from tutelage.selectors.statistics import Statistics
from tutelage.specs import Between
from tutelage.types import Feedback, Floats, Ints, State


def softmax(
    *, num_arms: int, rng: Generator, tau: Annotated[float, Between(0.01, 100.0)] = 0.1
) -> Bandit:
    """Choose k with a probability that grows as exp(x_k / tau)."""

    def policy(s: Statistics) -> Floats:
        weight: Floats = np.exp((s.mean - s.mean.max()) / tau)
        return np.asarray(weight / weight.sum())

    return Bandit(num_arms=num_arms, rng=rng, policy=policy)


class Nearest(ContextualSelector):
    """Choose the arm whose mean rewarded context is nearest."""

    _sum: Floats = np.zeros((1, 1))

    def _worth(self, context: Floats, arms: Ints) -> Floats:
        return np.asarray(-np.abs(context[:, None] - self._sum[arms]).sum(axis=2))

    def _distribution(self, context: Floats, arms: Ints) -> Floats:
        return np.asarray(np.eye(len(arms))[self._worth(context, arms).argmax(axis=1)])

    def _learn(self, feedback: Feedback) -> None:
        rewarded = np.eye(self.num_arms)[feedback.arm].T * feedback.reward
        self._sum = rewarded @ feedback.context / rewarded.sum(axis=1, keepdims=True).clip(1e-9)

    def _memory(self) -> State:
        return {"sum": self._sum}

    def _recall(self, memory: State) -> None:
        self._sum = np.asarray(memory["sum"])

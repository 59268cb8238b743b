"""Which of several tasks is played next."""

from collections.abc import Callable, Mapping

import numpy as np

from tutelage.assignment.alone import Alone
from tutelage.assignment.protocol import NO_CONTEXT
from tutelage.assignment.scales import Ranks
from tutelage.types import Feedback, Selector, State


class Practice(Alone):
    """Each task has one teacher; a selector chooses which task is played for a round.

    It is paid by what was learnt of that task in the round, loss before - loss after of one batch
    of its states (the prediction gain of Graves et al. 2017, section 3.1), put on [0, 1] by its
    rank among the latest. At first each task is played once, in their order, and so they are on
    and on without a selector.
    """

    def __init__(
        self,
        num_tasks: int,
        *,
        selector: Selector | None,
        losing: Callable[[int], Callable[[], float]],
    ) -> None:
        """``losing(task)`` draws a batch of the task's states; what it returns says their loss."""
        self.task = 0
        self._num_tasks = num_tasks
        self._selector = selector
        self._losing = losing
        self._rounds = 0
        self._paid = 0
        self._scale = Ranks()

    def begin(self) -> None:
        """Choose the task of the round."""
        self._before = self._reward = float("nan")
        if self._selector is None or self._rounds < self._num_tasks:
            self.task = self._rounds % self._num_tasks
        else:
            choice = self._selector.choose(NO_CONTEXT)
            self.task, self._probability = int(choice.arm[0]), float(choice.probability[0])
            self._loss = self._losing(self.task)
            self._before = self._loss()

    def settle(self) -> Mapping[int, Feedback]:
        """Pay the selector, if it chose."""
        self._rounds += 1
        if self._selector is None or np.isnan(self._before):
            return {}
        (self._reward,) = self._scale(np.array([self._before - self._loss()])).tolist()
        paid = Feedback(
            NO_CONTEXT,
            np.array([self.task]),
            np.array([self._reward]),
            np.array([self._probability]),
        )
        self._selector.update(paid)
        self._paid += 1
        return {self._paid: paid}

    def metrics(self) -> dict[str, float]:
        return {} if np.isnan(self._reward) else {"practice/reward": self._reward}

    def state(self) -> State:
        return {
            "rounds": self._rounds,
            "paid": self._paid,
            "scale": self._scale.state(),
            "selector": {} if self._selector is None else self._selector.state(),
        }

    def restore(self, state: State) -> None:
        self._rounds, self._paid = int(state["rounds"]), int(state["paid"])
        self._scale.restore(state["scale"])
        if self._selector is not None:
            self._selector.restore(state["selector"])

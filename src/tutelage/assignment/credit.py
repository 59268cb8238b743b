"""Where a segment of play ends, and what it was worth."""

from typing import Protocol

import numpy as np

from tutelage.assignment.protocol import Mask
from tutelage.assignment.scales import WINDOW, Ranks
from tutelage.domains.base import SegmentEnds
from tutelage.environments import Step
from tutelage.types import Floats, State, restored


class Credit(Protocol):
    """Cuts play into segments and says what each was worth."""

    def take(self, step: Step) -> tuple[Mask, Floats]:
        """Take a step in; return where a segment ends, ``[N]``, and what it came to, ``[N]``."""

    def worth(self, came_to: Floats) -> Floats | None:
        """Return what segments that came to ``came_to[M]`` are worth, ``[M]`` in [0, 1].

        None where that cannot be said yet: they are to be asked for again, with those that follow.
        """

    def state(self) -> State: ...
    def restore(self, state: State) -> None: ...


class LastReward:
    """Pays (1 + sign(r)) / 2, r the last reward of a segment: 1 if it was won, 0 if lost."""

    def __init__(self, ends: SegmentEnds) -> None:
        self._ends = ends

    def take(self, step: Step) -> tuple[Mask, Floats]:
        return self._ends(step), step.reward.astype(np.float64)

    def worth(self, came_to: Floats) -> Floats | None:
        return (1.0 + np.sign(came_to)) / 2.0

    def state(self) -> State:
        return {}

    def restore(self, state: State) -> None:
        pass


class SegmentReturn:
    """Takes an episode, or ``longest`` env steps of it, for a segment and pays its return's rank.

    The rank is that among the latest segments. Short episodes end first, and ranked among
    themselves bad ones would be worth as much as any. So none is paid before each environment has
    ended the segment that it began with, or as many have been played as are compared.
    """

    def __init__(self, num_envs: int, longest: int | None = None) -> None:
        self._longest = longest
        self._return = np.zeros(num_envs)
        self._steps = np.zeros(num_envs, np.int64)
        self._first = np.ones(num_envs, np.bool_)
        self._ranks = Ranks()

    def take(self, step: Step) -> tuple[Mask, Floats]:
        self._return += step.reward
        self._steps += 1
        ends = step.terminated | step.truncated
        if self._longest is not None:
            ends |= self._steps >= self._longest
        came_to = np.where(ends, self._return, 0.0)
        self._return[ends], self._steps[ends] = 0.0, 0
        self._first &= ~ends
        return ends, came_to

    def worth(self, came_to: Floats) -> Floats | None:
        if self._first.any() and len(came_to) < WINDOW:
            return None
        self._first[:] = False
        return self._ranks(came_to)

    def state(self) -> State:
        return {
            "return": self._return.copy(),
            "steps": self._steps.copy(),
            "first": self._first.copy(),
            "ranks": self._ranks.state(),
        }

    def restore(self, state: State) -> None:
        self._return = restored(state["return"], self._return)
        self._steps = restored(state["steps"], self._steps)
        self._first = restored(state["first"], self._first)
        self._ranks.restore(state["ranks"])

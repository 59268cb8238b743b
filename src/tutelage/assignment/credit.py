"""Where a segment of play ends, and what the choices in it are paid."""

from typing import Protocol

import numpy as np

from tutelage.assignment.protocol import Mask
from tutelage.assignment.scales import Ranks
from tutelage.domains.base import SegmentEnds
from tutelage.environments import Step
from tutelage.types import Floats, State


class Credit(Protocol):
    """Cuts play into segments and says what each was worth."""

    def ends(self, step: Step) -> Mask:
        """Return where a segment ends with this step, ``[N]``."""

    def of(self, step: Step, which: Mask) -> Floats:
        """Return what the M segments that end where ``which[N]`` are worth, ``[M]`` in [0, 1].

        Only those that are paid are asked for.
        """

    def state(self) -> State: ...
    def restore(self, state: State) -> None: ...


class LastReward:
    """Pays (1 + sign(r)) / 2, r the last reward of a segment: 1 if it was won, 0 if lost."""

    def __init__(self, ends: SegmentEnds) -> None:
        self.ends = ends

    def of(self, step: Step, which: Mask) -> Floats:
        return (1.0 + np.sign(step.reward[which].astype(np.float64))) / 2.0

    def state(self) -> State:
        return {}

    def restore(self, state: State) -> None:
        pass


class EpisodeReturn:
    """Takes an episode for a segment and pays the rank of its return among the latest ones."""

    def __init__(self) -> None:
        self._ranks = Ranks()

    def ends(self, step: Step) -> Mask:
        return step.terminated | step.truncated

    def of(self, step: Step, which: Mask) -> Floats:
        returns = np.zeros(len(which))
        returns[self.ends(step)] = [episode_return for episode_return, _ in step.finished]
        return self._ranks(returns[which])

    def state(self) -> State:
        return self._ranks.state()

    def restore(self, state: State) -> None:
        self._ranks.restore(state)

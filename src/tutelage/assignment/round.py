"""Who teaches in which state, and what that choice is paid.

A teacher is chosen here for a round of env steps; for a segment in one environment, or for each
state by its context, in ``segments``.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tutelage.assignment.measures import Measure, Round
from tutelage.environments import Step
from tutelage.errors import UserError
from tutelage.types import Array, Feedback, Floats, Selector, State

Arms = npt.NDArray[np.int64]
Led = npt.NDArray[np.bool_]
NO_CONTEXT = np.zeros((1, 0))


class Assignment(Protocol):
    """Assigns a teacher to every environment at every env step."""

    def begin(self) -> None:
        """Start a round."""

    def arms(self, obs: Array) -> Arms:
        """Return the teacher ``[N]`` of each state ``obs[N,*O]``; asked before every step."""

    def leads(self, beta: float, draw: Array) -> Led:
        """Return where the teacher acts, ``[N]``; ``draw[N]`` is uniform in [0, 1)."""

    def paid(self, step: Step) -> None:
        """Take in what came of the step."""

    def settle(self) -> Mapping[int, Feedback]:
        """End a round: let the selector learn, return the choices now paid by their number."""

    def drop(self, arm: int, reason: str) -> None:
        """Set a teacher that failed aside; raise UserError if it is the last one."""

    def trust(self, obs: Array, arm: Arms) -> Floats | None:
        """Return how far labels ``arm[B]`` of ``obs[B,*O]`` are still trusted, in [0, 1]; or None.

        None stands for all alike.
        """

    def metrics(self) -> dict[str, float]:
        """Return how often each teacher taught in this round, and what that was paid."""

    def state(self) -> State: ...
    def restore(self, state: State) -> None: ...


class Alone:
    """The one teacher there is, or none."""

    def begin(self) -> None:
        """Nothing is to be chosen."""

    def arms(self, obs: Array) -> Arms:
        """Return arm 0 for all."""
        return np.zeros(len(obs), np.int64)

    def leads(self, beta: float, draw: Array) -> Led:
        """Toss a coin in each env step (Ross et al. 2011)."""
        return np.asarray(draw < beta)

    def paid(self, step: Step) -> None:
        """Learn nothing."""

    def settle(self) -> Mapping[int, Feedback]:
        """Nothing was chosen."""
        return {}

    def drop(self, arm: int, reason: str) -> None:
        """Raise UserError: there is no other."""
        raise UserError(f"the teacher failed: {reason}")

    def trust(self, obs: Array, arm: Arms) -> Floats | None:
        """There is nobody else to trust."""
        return None

    def metrics(self) -> dict[str, float]:
        return {}

    def state(self) -> State:
        return {}

    def restore(self, state: State) -> None:
        pass


class PerRound:
    """One teacher for all environments, chosen by a selector at the beginning of a round."""

    def __init__(
        self,
        selector: Selector,
        *,
        names: tuple[str, ...],
        measure: Measure,
        low: float,
        high: float,
        play: Callable[[int], float],
    ) -> None:
        """``play(round)`` evaluates the student for a moment; returns are in [low, high]."""
        self.selector = selector
        self._names = names
        self._measure = measure
        self._low, self._high = low, high
        self._play = play
        self._rounds = 0
        self._previous = float("nan")

    def begin(self) -> None:
        self._won = self._lost = 0.0
        self._returns: list[float] = []
        self._choose()

    def _choose(self) -> None:
        choice = self.selector.choose(NO_CONTEXT)
        self._arm, self._probability = int(choice.arm[0]), float(choice.probability[0])

    def arms(self, obs: Array) -> Arms:
        return np.full(len(obs), self._arm)

    def leads(self, beta: float, draw: Array) -> Led:
        """Toss a coin in each env step (Ross et al. 2011)."""
        return np.asarray(draw < beta)

    def paid(self, step: Step) -> None:
        self._won += float(step.reward[step.reward > 0].sum())
        self._lost -= float(step.reward[step.reward < 0].sum())
        self._returns += [episode_return for episode_return, _ in step.finished]

    def settle(self) -> Mapping[int, Feedback]:
        mean = float(np.mean(self._returns)) if self._returns else float("nan")
        played = Round(
            self._won,
            self._lost,
            mean,
            self._previous,
            self._low,
            self._high,
            lambda: self._play(self._rounds),
        )
        self._reward = self._measure(played)
        if self._returns:
            self._previous = mean
        if np.isnan(self._reward):
            return {}
        feedback = Feedback(
            NO_CONTEXT,
            np.array([self._arm]),
            np.array([self._reward]),
            np.array([self._probability]),
        )
        self.selector.update(feedback)
        self._rounds += 1
        return {self._rounds: feedback}

    def drop(self, arm: int, reason: str) -> None:
        drop(self.selector, arm, self._names, reason)
        self._choose()

    def trust(self, obs: Array, arm: Arms) -> Floats | None:
        """Trust all: what a round pays rises with the student, whoever teaches."""
        return None

    def metrics(self) -> dict[str, float]:
        taught = {f"teachers/{k}": float(k == self._arm) for k in range(len(self._names))}
        paid = {} if np.isnan(self._reward) else {"teachers/reward": self._reward}
        return {**taught, **paid}

    def state(self) -> State:
        return {
            "selector": self.selector.state(),
            "rounds": self._rounds,
            "previous": self._previous,
        }

    def restore(self, state: State) -> None:
        self.selector.restore(state["selector"])
        self._rounds = int(state["rounds"])
        self._previous = float(state["previous"])


def drop(selector: Selector, arm: int, names: tuple[str, ...], reason: str) -> None:
    """Set a teacher that failed aside, with a warning; raise UserError if it is the last one."""
    try:
        selector.drop(arm)
    except UserError as error:
        raise UserError(f"teacher {names[arm]} failed, and no other is left: {reason}") from error
    print(f"warning: teacher {names[arm]} is set aside: {reason}", file=sys.stderr)

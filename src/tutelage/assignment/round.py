"""One teacher for all environments, for a round of env steps."""

from collections.abc import Callable, Mapping

import numpy as np

from tutelage.assignment.measures import Round
from tutelage.assignment.protocol import NO_CONTEXT, Arms, Mask, set_aside
from tutelage.assignment.scales import Scale
from tutelage.environments import Step
from tutelage.types import Array, Feedback, Floats, Selector, State


class PerRound:
    """One teacher for all environments, chosen by a selector at the beginning of a round."""

    def __init__(
        self,
        selector: Selector,
        *,
        names: tuple[str, ...],
        measure: Callable[[Round], float],
        scale: Scale,
        play: Callable[[int], float],
    ) -> None:
        """A round is paid ``scale(measure(round))``; nothing where the measure is NaN.

        ``play(round)`` evaluates the student for a moment.
        """
        self.selector = selector
        self._names = names
        self._measure = measure
        self._scale = scale
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

    def leads(self, beta: float, draw: Array) -> Mask:
        """Toss a coin in each env step (Ross et al. 2011)."""
        return np.asarray(draw < beta)

    def arms(self, obs: Array) -> Arms:
        return np.full(len(obs), self._arm)

    def paid(self, step: Step) -> None:
        self._won += float(step.reward[step.reward > 0].sum())
        self._lost -= float(step.reward[step.reward < 0].sum())
        self._returns += [episode_return for episode_return, _ in step.finished]

    def settle(self) -> Mapping[int, Feedback]:
        mean = float(np.mean(self._returns)) if self._returns else float("nan")
        measured = self._measure(
            Round(self._won, self._lost, mean, self._previous, lambda: self._play(self._rounds))
        )
        if self._returns:
            self._previous = mean
        self._reward = float("nan")
        if np.isnan(measured):
            return {}
        (self._reward,) = self._scale(np.array([measured])).tolist()
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
        set_aside(self.selector, arm, self._names, reason)
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
            "scale": self._scale.state(),
            "rounds": self._rounds,
            "previous": self._previous,
        }

    def restore(self, state: State) -> None:
        self.selector.restore(state["selector"])
        self._scale.restore(state["scale"])
        self._rounds = int(state["rounds"])
        self._previous = float(state["previous"])

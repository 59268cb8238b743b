"""Teachers chosen for a segment, or for each state in it, and paid by how the segment ends.

A segment is the stretch up to the next reward that is not 0, or the episode's end.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tutelage.assignment.round import NO_CONTEXT, Arms, Led, drop
from tutelage.domains import Feature
from tutelage.environments import Step
from tutelage.selectors.statistics import Statistics
from tutelage.types import Array, Feedback, Floats, Selector, State, generator_state


def not_worse(s: Statistics, left: Arms, z: float = 1.645) -> Led:
    """Return which teachers ``[K]`` are not shown to be worse than the best one that is left.

    Under Beta(1 + S_k, 1 + n_k - S_k) for each, teacher k is eliminated where the means differ by
    more than z standard deviations of their difference: 5 % for one pair. (Successive elimination,
    Even-Dar et al. 2006, with posteriors instead of Hoeffding's bound.)
    """
    a, b = 1.0 + s.total, 1.0 + s.count - s.total
    mean = a / (a + b)
    variance = mean * (1.0 - mean) / (a + b + 1.0)
    best = left[mean[left].argmax()]
    return np.asarray(mean[best] - mean <= z * np.sqrt(variance + variance[best]))


class _Segments(ABC):
    """Choices that are paid by how the segment they were made in ends.

    Who acts is drawn once for a segment: with probability beta its teachers do. A segment that the
    student played says little of them, so only led segments are paid, unless ``pay_all``. Where a
    choice is not paid there is nothing to explore for, and the best teacher known is taken.
    """

    def __init__(
        self,
        selector: Selector,
        *,
        names: tuple[str, ...],
        num_envs: int,
        rng: np.random.Generator,
        pay_all: bool = False,
    ) -> None:
        self.selector = selector
        self._names = names
        self._rng = rng
        self._pay_all = pay_all
        self._segments = 0
        self._fresh = np.ones(num_envs, np.bool_)
        self._led = np.zeros(num_envs, np.bool_)
        self._closed: list[Feedback] = []

    def begin(self) -> None:
        self._taught = np.zeros(len(self._names))

    @abstractmethod
    def arms(self, obs: Array) -> Arms: ...

    @abstractmethod
    def trust(self, obs: Array, arm: Arms) -> Floats | None: ...

    @abstractmethod
    def _note(self) -> Arms:
        """Remember the choices just made; return their arms ``[N]``."""

    @abstractmethod
    def _close(self, i: int, won: float) -> Feedback:
        """Forget environment i's choices; return them as paid for ``won``: 1, 0 or -1."""

    @property
    def _paying(self) -> Led:
        return self._led | self._pay_all

    def leads(self, beta: float, draw: Array) -> Led:
        """Let who begins a segment finish it."""
        self._led = np.where(self._fresh, draw < beta, self._led)
        return self._led

    def paid(self, step: Step) -> None:
        self._taught += np.bincount(self._note(), minlength=len(self._names))
        self._fresh = (step.reward != 0) | step.terminated | step.truncated
        for i in np.flatnonzero(self._fresh):
            feedback = self._close(int(i), float(np.sign(step.reward[i])))
            if self._paying[i]:
                self._closed.append(feedback)

    def settle(self) -> Mapping[int, Feedback]:
        closed, self._closed = self._closed, []
        if closed:
            self.selector.update(
                Feedback(
                    np.concatenate([f.context for f in closed]),
                    np.concatenate([f.arm for f in closed]),
                    np.concatenate([f.reward for f in closed]),
                    np.concatenate([f.probability for f in closed]),
                )
            )
        settled = dict(enumerate(closed, start=self._segments + 1))
        self._segments += len(closed)
        self._reward = float(np.mean([f.reward.mean() for f in closed])) if closed else np.nan
        return settled

    def drop(self, arm: int, reason: str) -> None:
        drop(self.selector, arm, self._names, reason)

    def metrics(self) -> dict[str, float]:
        share = self._taught / max(self._taught.sum(), 1.0)
        paid = {} if np.isnan(self._reward) else {"teachers/reward": self._reward}
        return {**{f"teachers/{k}": float(s) for k, s in enumerate(share)}, **paid}

    def state(self) -> State:
        return {
            "selector": self.selector.state(),
            "rng": generator_state(self._rng),
            "segments": self._segments,
            "fresh": self._fresh.copy(),
            "led": self._led.copy(),
        }

    def restore(self, state: State) -> None:
        self.selector.restore(state["selector"])
        self._rng.bit_generator.state = state["rng"]
        self._segments = int(state["segments"])
        self._fresh = np.asarray(state["fresh"], np.bool_).copy()
        self._led = np.asarray(state["led"], np.bool_).copy()


class PerSegment(_Segments):
    """A teacher for each segment in each environment, chosen without a context."""

    def __init__(
        self,
        selector: Selector,
        *,
        names: tuple[str, ...],
        num_envs: int,
        rng: np.random.Generator,
        pay_all: bool = False,
    ) -> None:
        super().__init__(selector, names=names, num_envs=num_envs, rng=rng, pay_all=pay_all)
        self._arm = np.zeros(num_envs, np.int64)
        self._probability = np.ones(num_envs)
        self._paid = Statistics(len(names))

    def arms(self, obs: Array) -> Arms:
        for i in np.flatnonzero(self._fresh):
            self._choose(int(i))
        return self._arm.copy()

    def _choose(self, i: int) -> None:
        if self._paying[i]:
            choice = self.selector.choose(NO_CONTEXT)
            self._arm[i], self._probability[i] = choice.arm[0], choice.probability[0]
        else:
            self._arm[i], self._probability[i] = self.selector.exploit(NO_CONTEXT)[0], 1.0

    def _note(self) -> Arms:
        return self._arm

    def _close(self, i: int, won: float) -> Feedback:
        return Feedback(
            NO_CONTEXT,
            self._arm[[i]],
            np.array([(1.0 + won) / 2.0]),
            self._probability[[i]],
        )

    def settle(self) -> Mapping[int, Feedback]:
        settled = super().settle()
        for segment in settled.values():
            self._paid.add(int(segment.arm[0]), float(segment.reward[0]))
        return settled

    def trust(self, obs: Array, arm: Arms) -> Floats | None:
        """Trust the teachers that are not shown to be worse than the best."""
        return not_worse(self._paid, self.selector.left)[arm].astype(np.float64)

    def drop(self, arm: int, reason: str) -> None:
        super().drop(arm, reason)
        for i in np.flatnonzero(self._arm == arm):
            self._choose(int(i))

    def state(self) -> State:
        return {
            **super().state(),
            "arm": self._arm.copy(),
            "probability": self._probability.copy(),
            "paid": self._paid.state(),
        }

    def restore(self, state: State) -> None:
        super().restore(state)
        self._arm = np.asarray(state["arm"], np.int64).copy()
        self._probability = np.asarray(state["probability"], np.float64).copy()
        self._paid.restore(state["paid"])


class PerState(_Segments):
    """A teacher for each state, chosen by a selector from features of it.

    One number is drawn per environment and segment, and decides all choices in it: so each keeps
    the probability that the selector gives it, while a segment is taught by one consistent policy
    and not by a new throw of the dice at each step. A choice made k steps before the point is paid
    (1 + decay^k sign(r)) / 2; decay = 1 pays the whole segment alike.
    """

    def __init__(
        self,
        selector: Selector,
        *,
        names: tuple[str, ...],
        feature: Feature,
        num_envs: int,
        rng: np.random.Generator,
        decay: float,
        pay_all: bool = False,
    ) -> None:
        super().__init__(selector, names=names, num_envs=num_envs, rng=rng, pay_all=pay_all)
        self._feature = feature
        self._decay = decay
        self._draw = np.zeros(num_envs)
        self._open = [_Segment([], [], []) for _ in range(num_envs)]

    def arms(self, obs: Array) -> Arms:
        self._draw = np.where(self._fresh, self._rng.random(len(self._draw)), self._draw)
        self._context = self._feature.of(obs)
        self._choice = self.selector.choose(self._context, self._draw)
        if not (paying := self._paying).all():
            best = self.selector.exploit(self._context)
            self._choice = replace(self._choice, arm=np.where(paying, self._choice.arm, best))
        return self._choice.arm

    def trust(self, obs: Array, arm: Arms) -> Floats | None:
        """Trust a teacher in proportion to its probability of being chosen in that state now.

        The one that looks best there wholly, whom a bonus for exploring may pass over; and all
        alike while some are untried: those are chosen to be tried, not for what they know.
        """
        if not self.selector.tried:
            return None
        context = self._feature.of(obs)
        probability = self.selector.probabilities(context)
        trust = probability[np.arange(len(arm)), arm] / probability.max(axis=1)
        return np.where(arm == self.selector.exploit(context), 1.0, trust)

    def _note(self) -> Arms:
        choice = self._choice
        for segment, *now in zip(
            self._open, self._context, choice.arm, choice.probability, strict=True
        ):
            segment.add(*now)
        return choice.arm

    def _close(self, i: int, won: float) -> Feedback:
        segment, self._open[i] = self._open[i], _Segment([], [], [])
        before = np.arange(len(segment.arm) - 1, -1, -1)
        return Feedback(
            np.array(segment.context),
            np.array(segment.arm),
            np.asarray((1.0 + self._decay**before * won) / 2.0, np.float64),
            np.array(segment.probability),
        )

    def state(self) -> State:
        return {
            **super().state(),
            "draw": self._draw.copy(),
            "lengths": np.array([len(segment.arm) for segment in self._open]),
            "context": np.array([x for r in self._open for x in r.context], np.float64),
            "arm": np.array([a for r in self._open for a in r.arm], np.int64),
            "probability": np.array([p for r in self._open for p in r.probability], np.float64),
        }

    def restore(self, state: State) -> None:
        super().restore(state)
        self._draw = np.asarray(state["draw"]).copy()
        ends = np.cumsum(np.asarray(state["lengths"]))[:-1]
        parts = [np.split(np.asarray(state[name]), ends) for name in _Segment.__dataclass_fields__]
        self._open = [_Segment(*map(list, segment)) for segment in zip(*parts, strict=True)]


@dataclass(frozen=True)
class _Segment:
    """The choices made in one environment since the last point."""

    context: list[Array]
    arm: list[int]
    probability: list[float]

    def add(self, context: Array, arm: int, probability: float) -> None:
        self.context.append(context)
        self.arm.append(arm)
        self.probability.append(probability)

"""A teacher for each state, chosen by features of it."""

from dataclasses import replace

import numpy as np

from tutelage.assignment.base import BySegment
from tutelage.assignment.choices import Choices, pack, unpack
from tutelage.assignment.credit import Credit
from tutelage.assignment.protocol import Arms, Mask
from tutelage.domains.base import Feature
from tutelage.types import Array, Choice, Floats, Selector, State, generator_state, restored


class PerState(BySegment):
    """Choose a teacher in each state, by its context.

    One number is drawn per environment and segment, and decides all choices in it: so each keeps
    the probability that the selector gives it, while a segment is taught by one consistent policy
    and not by a new throw of the dice at each step. A choice made k steps before the end of a
    segment worth u is paid (1 + decay^k (2u - 1)) / 2; decay = 1 pays the whole segment alike.
    """

    def __init__(
        self,
        selector: Selector,
        *,
        names: tuple[str, ...],
        credit: Credit,
        feature: Feature,
        num_envs: int,
        rng: np.random.Generator,
        decay: float,
        pay_all: bool = False,
    ) -> None:
        super().__init__(
            selector, names=names, credit=credit, num_envs=num_envs, pay_all=pay_all, decay=decay
        )
        self._feature = feature
        self._rng = rng
        self._draw = np.zeros(num_envs)
        self._choice: Choice | None = None
        self._segment = [Choices([], [], []) for _ in range(num_envs)]

    def _open(self, fresh: Mask) -> None:
        self._draw = np.where(fresh, self._rng.random(len(fresh)), self._draw)
        self._choice = None

    def arms(self, obs: Array) -> Arms:
        self._require_begun()
        if self._choice is None:
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
        choice, self._choice = self._choice, None
        if choice is None:
            raise RuntimeError("arms, which chooses for a step, comes before paid")
        for segment, *now in zip(
            self._segment, self._context, choice.arm, choice.probability, strict=True
        ):
            segment.add(*now)
        return choice.arm

    def _close(self, i: int) -> Choices:
        closed, self._segment[i] = self._segment[i], Choices([], [], [])
        return closed

    def drop(self, arm: int, reason: str) -> None:
        super().drop(arm, reason)
        self._choice = None

    def state(self) -> State:
        return {
            **super().state(),
            "rng": generator_state(self._rng),
            "draw": self._draw.copy(),
            "open": pack(self._segment),
        }

    def restore(self, state: State) -> None:
        super().restore(state)
        self._rng.bit_generator.state = state["rng"]
        self._draw = restored(state["draw"], self._draw)
        self._choice = None
        self._segment = unpack(state["open"], len(self._segment))

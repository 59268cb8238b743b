"""What choices that are paid by segments share, whether made for a segment or for each state."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from tutelage.assignment.choices import Choices, pack, unpack
from tutelage.assignment.credit import Credit
from tutelage.assignment.protocol import Arms, Mask, set_aside
from tutelage.environments import Step
from tutelage.types import Array, Feedback, Floats, Selector, State


class BySegment(ABC):
    """Choices that are paid by what the segment they were made in is worth.

    Who acts is drawn once for a segment: with probability beta its teachers do. A segment that the
    student played says little of them, so only led segments are paid, unless ``pay_all``. Where a
    choice is not paid there is nothing to explore for, and the best teacher known is taken.
    """

    def __init__(
        self,
        selector: Selector,
        *,
        names: tuple[str, ...],
        credit: Credit,
        num_envs: int,
        pay_all: bool = False,
        decay: float = 1.0,
    ) -> None:
        self.selector = selector
        self._names = names
        self._credit = credit
        self._pay_all = pay_all
        self._decay = decay
        self._segments = 0
        # Where a segment has ended and the next has not begun.
        self._fresh = np.ones(num_envs, np.bool_)
        self._led = np.zeros(num_envs, np.bool_)
        # Segments that are to be paid, and what each came to.
        self._closed: list[Choices] = []
        self._came_to: list[float] = []

    def begin(self) -> None:
        self._taught = np.zeros(len(self._names))

    @abstractmethod
    def arms(self, obs: Array) -> Arms: ...

    @abstractmethod
    def trust(self, obs: Array, arm: Arms) -> Floats | None: ...

    @abstractmethod
    def _open(self, fresh: Mask) -> None:
        """Begin a step, and a segment where ``fresh[N]``."""

    @abstractmethod
    def _note(self) -> Arms:
        """Remember the choices of this step; return their arms ``[N]``."""

    @abstractmethod
    def _close(self, i: int) -> Choices:
        """Forget environment i's choices; return them."""

    @property
    def _paying(self) -> Mask:
        return self._led | self._pay_all

    def leads(self, beta: float, draw: Array) -> Mask:
        """Let who begins a segment finish it."""
        fresh, self._fresh = self._fresh, np.zeros_like(self._fresh)
        self._led = np.where(fresh, draw < beta, self._led)
        self._open(fresh)
        return self._led

    def paid(self, step: Step) -> None:
        self._require_begun()
        self._taught += np.bincount(self._note(), minlength=len(self._names))
        self._fresh, came_to = self._credit.take(step)
        for i in np.flatnonzero(self._fresh):
            choices = self._close(int(i))
            if self._paying[i]:
                self._closed.append(choices)
                self._came_to.append(float(came_to[i]))

    def _require_begun(self) -> None:
        if self._fresh.any():
            raise RuntimeError("a segment has ended: leads, which begins the next, comes first")

    def settle(self) -> Mapping[int, Feedback]:
        self._reward = np.nan
        worth = self._credit.worth(np.array(self._came_to)) if self._closed else None
        if worth is None:
            return {}
        paid = [one.paid(w, self._decay) for one, w in zip(self._closed, worth, strict=True)]
        self._closed, self._came_to = [], []
        self.selector.update(
            Feedback(
                np.concatenate([f.context for f in paid]),
                np.concatenate([f.arm for f in paid]),
                np.concatenate([f.reward for f in paid]),
                np.concatenate([f.probability for f in paid]),
            )
        )
        self._reward = float(np.mean([f.reward.mean() for f in paid]))
        settled = dict(enumerate(paid, start=self._segments + 1))
        self._segments += len(paid)
        return settled

    def drop(self, arm: int, reason: str) -> None:
        set_aside(self.selector, arm, self._names, reason)

    def metrics(self) -> dict[str, float]:
        share = self._taught / max(self._taught.sum(), 1.0)
        paid = {} if np.isnan(self._reward) else {"teachers/reward": self._reward}
        return {**{f"teachers/{k}": float(s) for k, s in enumerate(share)}, **paid}

    def state(self) -> State:
        return {
            "selector": self.selector.state(),
            "credit": self._credit.state(),
            "segments": self._segments,
            "fresh": self._fresh.copy(),
            "led": self._led.copy(),
            "closed": pack(self._closed),
            "came_to": list(self._came_to),
        }

    def restore(self, state: State) -> None:
        self.selector.restore(state["selector"])
        self._credit.restore(state["credit"])
        self._segments = int(state["segments"])
        self._fresh = np.asarray(state["fresh"], np.bool_).copy()
        self._led = np.asarray(state["led"], np.bool_).copy()
        self._closed = unpack(state["closed"])
        self._came_to = [float(one) for one in state["came_to"]]

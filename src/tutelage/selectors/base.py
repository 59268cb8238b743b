"""What selectors of every kind share: a distribution over the teachers, drawn from and reported.

Two selectors differ in what they learn and in the distribution that they derive from it. Trying
every teacher first, setting one aside, drawing, checking and resuming are the same for all. One
that looks at no context is a ``Bandit`` or another ``DistributionSelector``; one that does is a
``ContextualSelector``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from tutelage.errors import UserError
from tutelage.selectors.probabilities import epsilon_greedy
from tutelage.selectors.statistics import Statistics
from tutelage.specs import Between
from tutelage.types import Array, Choice, Feedback, Floats, Ints, State, generator_state

Generator = np.random.Generator
Positive = Annotated[float, Between(1e-6, 1e6)]
Rounds = Annotated[int, Between(1, 10**9)]


class DistributionSelector(ABC):
    """Draws each arm from a distribution, so that the probability it reports is the true one.

    While some teachers have no settled choice yet, the draw is uniform over those. No context is
    looked at: all rows of one call get one arm.
    """

    def __init__(self, *, num_arms: int, rng: Generator) -> None:
        if num_arms < 1:
            raise UserError(f"{num_arms} teachers, expected at least one")
        self.num_arms = num_arms
        self._rng = rng
        self._left = np.arange(num_arms)
        self._settled = np.zeros(num_arms, np.int64)
        self._known: Floats | None = None

    @abstractmethod
    def _distribution(self, context: Floats, arms: Ints) -> Floats:
        """Return ``p[N,len(arms)]`` over ``arms``, those neither untried nor set aside."""

    @abstractmethod
    def _worth(self, context: Floats, arms: Ints) -> Floats:
        """Return how good ``arms``, all tried, look by themselves: ``[N,len(arms)]``, or a row."""

    @abstractmethod
    def _learn(self, feedback: Feedback) -> None: ...

    @abstractmethod
    def _memory(self) -> State:
        """Return what was learnt, as plain data."""

    @abstractmethod
    def _recall(self, memory: State) -> None: ...

    @property
    def left(self) -> Ints:
        return self._left.copy()

    @property
    def tried(self) -> bool:
        return bool(self._tried()[self._left].all())

    def _tried(self) -> npt.NDArray[np.bool_]:
        return self._settled > 0

    def _rows(self, context: Floats) -> Floats:
        """Return ``p[N,K]``, or ``[1,K]`` where the context does not matter."""
        # Nothing but what is learnt can change it.
        if self._known is None:
            self._known = self._derive(context[:1])
        return self._known

    def _derive(self, context: Floats) -> Floats:
        arms, tried = self._left, self._tried()[self._left]
        part = (
            self._distribution(context, arms)
            if tried.all()
            else np.broadcast_to(~tried / np.count_nonzero(~tried), (len(context), len(arms)))
        )
        if len(arms) == self.num_arms:
            return part
        probability = np.zeros((len(context), self.num_arms))
        probability[:, arms] = part
        return probability

    def probabilities(self, context: Floats) -> Floats:
        """Return ``p[N,K]``: how likely ``choose`` is to choose each arm in each context."""
        rows = self._rows(context)
        return np.repeat(rows, len(context) // len(rows), axis=0)

    def choose(self, context: Floats, draw: Floats | None = None) -> Choice:
        """Choose an arm for each row of ``context[N,d]``, by inverting the distribution function.

        At ``draw[N]``, uniform in [0, 1), or at numbers of its own. Rows that share a draw and a
        distribution share the arm.
        """
        rows = self._rows(context)
        if draw is None:
            draw = self._rng.random(len(rows))
        below = rows.cumsum(axis=1)
        # Divided by its own last entry, which makes that exactly 1: more than any random().
        below /= below[:, -1:]
        arm = (below > draw[: len(rows), None]).argmax(axis=1)
        probability = rows[np.arange(len(rows)), arm]
        if (copies := len(context) // len(rows)) == 1:
            return Choice(arm, probability)
        return Choice(np.repeat(arm, copies), np.repeat(probability, copies))

    def exploit(self, context: Floats) -> Ints:
        """Return the arm that looks best in each context, for choices that will not be paid.

        Where nothing is learnt there is nothing to explore for. Of equals the first; while no arm
        has been tried, a draw.
        """
        arms = self._left[self._tried()[self._left]]
        if not arms.size:
            return self.choose(context).arm
        best = arms[self._worth(context, arms).argmax(axis=1)]
        return np.asarray(np.broadcast_to(best, len(context)))

    def update(self, feedback: Feedback) -> None:
        """Learn from settled choices; raise UserError for an arm that there is not."""
        if len(unknown := feedback.arm[feedback.arm >= self.num_arms]):
            raise UserError(f"no teacher {unknown[0]}, expected 0 to {self.num_arms - 1}")
        self._known = None
        self._learn(feedback)
        self._settled += np.bincount(feedback.arm, minlength=self.num_arms)

    def drop(self, arm: int) -> None:
        """Never choose ``arm`` again; raise UserError if it is unknown or the last one left."""
        if not 0 <= arm < self.num_arms:
            raise UserError(f"no teacher {arm} to set aside, expected 0 to {self.num_arms - 1}")
        if list(self._left) == [arm]:
            raise UserError(f"teacher {arm} cannot be set aside: it is the last one left")
        self._known = None
        self._left = self._left[self._left != arm]

    def state(self) -> State:
        return {
            "rng": generator_state(self._rng),
            "left": self._left.copy(),
            "settled": self._settled.copy(),
            "memory": self._memory(),
        }

    def restore(self, state: State) -> None:
        if (saved := len(state["settled"])) != self.num_arms:
            raise UserError(f"the state is of {saved} teachers, expected {self.num_arms}")
        self._known = None
        self._rng.bit_generator.state = state["rng"]
        self._left = np.asarray(state["left"], np.int64).copy()
        self._settled = np.asarray(state["settled"], np.int64).copy()
        self._recall(state["memory"])


class ContextualSelector(DistributionSelector):
    """Draws an arm for each row of context, from a distribution of its own."""

    def __init__(self, *, num_arms: int, rng: Generator, context_dim: int) -> None:
        super().__init__(num_arms=num_arms, rng=rng)
        self._dim = context_dim

    def _rows(self, context: Floats) -> Floats:
        self._check(context)
        return self._derive(context)

    def exploit(self, context: Floats) -> Ints:
        self._check(context)
        return super().exploit(context)

    def update(self, feedback: Feedback) -> None:
        self._check(feedback.context)
        super().update(feedback)

    def _check(self, context: Floats) -> None:
        """Raise UserError unless ``context`` is ``[N,d]`` of finite numbers."""
        if context.ndim != 2 or context.shape[1] != self._dim:
            raise UserError(f"context has shape {context.shape}, expected (N, {self._dim})")
        if not np.isfinite(context).all():
            raise UserError(f"context is {context.tolist()}, expected finite numbers")


@runtime_checkable
class TakesTrials(Protocol):
    """A selector that is told how well each teacher plays before the first choice."""

    def score(self, trials: Floats) -> None:
        """Take the mean returns ``trials[K]`` of a short evaluation of each teacher."""


Policy = Callable[[Statistics], Floats]
"""Statistics of A arms, all tried -> ``p[A]``."""

Index = Callable[[Statistics], Floats]
"""Statistics of A arms, all tried -> ``index[A]``; the largest is chosen, of equals the first."""


def by_index(index: Index) -> Policy:
    """Choose argmax_k index_k."""
    return lambda statistics: epsilon_greedy(index(statistics), 0.0)


class Bandit(DistributionSelector):
    """One teacher for all environments, drawn from a policy of the statistics alone."""

    def __init__(
        self,
        *,
        num_arms: int,
        rng: Generator,
        policy: Policy,
        statistics: Statistics | None = None,
        binary: bool = False,
    ) -> None:
        """``binary``: count a reward r as 1 with probability r, else as 0."""
        super().__init__(num_arms=num_arms, rng=rng)
        self.statistics = statistics or Statistics(num_arms)
        self._policy = policy
        self._binary = binary

    def _tried(self) -> Array:
        return self.statistics.count > 0.0

    def _distribution(self, context: Floats, arms: Ints) -> Floats:
        return self._policy(self.statistics.only(arms))[None]

    def _worth(self, context: Floats, arms: Ints) -> Floats:
        return self.statistics.only(arms).mean[None]

    def _learn(self, feedback: Feedback) -> None:
        for arm, reward in zip(feedback.arm, feedback.reward, strict=True):
            seen = float(self._rng.random() < reward) if self._binary else float(reward)
            self._settle(int(arm), seen)

    def _settle(self, arm: int, reward: float) -> None:
        self.statistics.add(arm, reward)

    def _memory(self) -> State:
        return self.statistics.state()

    def _recall(self, memory: State) -> None:
        self.statistics.restore(memory)

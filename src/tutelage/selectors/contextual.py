"""Selectors with a context: which teacher to learn from in each state, for N states at once.

All regressions are ridge regressions on [1, context], solved afresh after each batch of feedback,
so that a choice costs a few matrix products. Constructors take ``(*, num_arms, rng,
context_dim)`` and options of their own.
"""

from collections.abc import Callable
from typing import Annotated

import numpy as np

from tutelage.errors import UserError
from tutelage.selectors.base import ContextualSelector, Generator, Positive
from tutelage.selectors.probabilities import epsilon_greedy, largest_gaussian
from tutelage.specs import Between, ProbabilitySchedule, Table
from tutelage.types import Array, Feedback, Floats, Ints, State

Explore = Callable[[Floats, int], Floats]
"""Scores ``[N,A]`` and the number t of settled choices -> ``p[N,A]``."""


def epsilon(schedule: ProbabilitySchedule = lambda t: 0.05) -> Explore:
    """Choose the largest score or, with a probability of ``schedule(t)``, uniformly."""
    return lambda scores, t: epsilon_greedy(scores, schedule(t))


def squarecb(
    scale: Positive = 10.0, exponent: Annotated[float, Between(0.0, 10.0)] = 0.5
) -> Explore:
    """Choose a with p_a = 1 / (A + gamma (s_best - s_a)), and the best with what remains.

    Foster & Rakhlin 2020, algorithm 1; gamma = scale t^exponent, as Vowpal Wabbit has it.
    """

    def explore(scores: Floats, t: int) -> Floats:
        gap = scores.max(axis=1, keepdims=True) - scores
        probability = 1.0 / (scores.shape[1] + scale * t**exponent * gap)
        rest = 1.0 - probability.sum(axis=1, keepdims=True)
        return np.asarray(probability + rest * epsilon_greedy(scores, 0.0))

    return explore


EXPLORATIONS: dict[str, Callable[..., Explore]] = {"epsilon": epsilon, "squarecb": squarecb}
"""Name -> how the regressors explore: ``epsilon(schedule)``, ``squarecb(scale, exponent)``."""

Exploring = Annotated[Explore, Table("exploration of a selector", EXPLORATIONS)]
Penalty = Annotated[float, Between(1e-12, 1e12)]
EPSILON = epsilon()


class Ridge:
    """G ridge regressions of O outputs each: Theta_g = A_g^-1 B_g, ``[G,D,O]``.

    A_g = penalty I + sum w_g x x', B_g = sum w_g x y'. One regression per arm has G = K, O = 1;
    all arms over the same states have G = 1, O = K. Either way there are K = G O predictions.
    """

    def __init__(self, *, groups: int, outputs: int, dim: int, penalty: float) -> None:
        self._penalty = penalty
        self._gram = np.tile(penalty * np.eye(dim), (groups, 1, 1))
        self._moment = np.zeros((groups, dim, outputs))
        self._solve()

    def add(self, x: Floats, target: Floats, weight: Floats) -> None:
        """Learn ``target[M,O]`` of ``x[M,D]`` with ``weight[M,G]``."""
        weighted = (weight.T[:, :, None] * x).transpose(0, 2, 1)
        self._gram += weighted @ x
        self._moment += weighted @ target
        self._solve()

    def _solve(self) -> None:
        """With A = C C' and R = C^-T, A^-1 = R R': Theta = R R' B and x' A^-1 x = |x' R|^2."""
        try:
            root = np.linalg.inv(np.linalg.cholesky(self._gram)).transpose(0, 2, 1)
        except np.linalg.LinAlgError as error:
            raise UserError(f"penalty {self._penalty:g} is too small for this context") from error
        theta = root @ (root.transpose(0, 2, 1) @ self._moment)
        dim = self._gram.shape[1]
        self._theta = theta.transpose(1, 0, 2).reshape(dim, -1)
        self._root = root.transpose(1, 0, 2).reshape(dim, -1)

    def mean(self, x: Floats) -> Floats:
        """Return the predictions ``[N,K]``."""
        return x @ self._theta

    def width(self, x: Floats) -> Floats:
        """Return sqrt(x' A_g^-1 x), ``[N,G]``."""
        spread = (x @ self._root).reshape(len(x), -1, x.shape[1])
        squared: Floats = np.einsum("ngd,ngd->ng", spread, spread)
        return np.sqrt(squared)

    def state(self) -> State:
        return {"gram": self._gram.copy(), "moment": self._moment.copy()}

    def restore(self, state: State) -> None:
        self._gram = np.asarray(state["gram"], np.float64).copy()
        self._moment = np.asarray(state["moment"], np.float64).copy()
        self._solve()


class Regressor(ContextualSelector):
    """Scores each arm in each state by ridge regression, and explores around the best score."""

    shared = True
    """Whether all arms learn from every state, or each from those where it was chosen."""

    def __init__(
        self,
        *,
        num_arms: int,
        rng: Generator,
        context_dim: int,
        explore: Exploring = EPSILON,
        penalty: Penalty = 1.0,
    ) -> None:
        super().__init__(num_arms=num_arms, rng=rng, context_dim=context_dim)
        groups, outputs = (1, num_arms) if self.shared else (num_arms, 1)
        self._ridge = Ridge(groups=groups, outputs=outputs, dim=1 + context_dim, penalty=penalty)
        self._explore = explore

    def _features(self, context: Array) -> Floats:
        """Return [1, context], ``[N,1+d]``."""
        features = np.ones((len(context), 1 + self._dim))
        features[:, 1:] = context
        return features

    def _distribution(self, context: Floats, arms: Ints) -> Floats:
        scores = self._ridge.mean(self._features(context))
        return self._explore(scores[:, arms], int(self._settled.sum()))

    def _worth(self, context: Floats, arms: Ints) -> Floats:
        return self._ridge.mean(self._features(context))[:, arms]

    def _memory(self) -> State:
        return {"ridge": self._ridge.state()}

    def _recall(self, memory: State) -> None:
        self._ridge.restore(memory["ridge"])


class DirectMethod(Regressor):
    """Regress the reward on the context, for each arm from the states where it was chosen."""

    shared = False

    def _learn(self, feedback: Feedback) -> None:
        chosen = np.eye(self.num_arms)[feedback.arm]
        self._ridge.add(self._features(feedback.context), feedback.reward[:, None], chosen)


class LinUCB(DirectMethod):
    """Choose the largest theta_k' x + alpha sqrt(x' A_k^-1 x) (Li et al. 2010, algorithm 1)."""

    def __init__(
        self,
        *,
        num_arms: int,
        rng: Generator,
        context_dim: int,
        alpha: Annotated[float, Between(0.0, 1e6)] = 1.0,
        penalty: Penalty = 1.0,
    ) -> None:
        super().__init__(num_arms=num_arms, rng=rng, context_dim=context_dim, penalty=penalty)
        self._alpha = alpha

    def _distribution(self, context: Floats, arms: Ints) -> Floats:
        x = self._features(context)
        bound = self._ridge.mean(x) + self._alpha * self._ridge.width(x)
        return epsilon_greedy(bound[:, arms], 0.0)


class LinearThompson(DirectMethod):
    """Choose each arm as often as it is the best for theta_k ~ N(A_k^-1 b_k, v^2 A_k^-1).

    Agrawal & Goyal 2013, algorithm 1, with parameters of its own for each arm; ``scale`` is v.
    """

    def __init__(
        self,
        *,
        num_arms: int,
        rng: Generator,
        context_dim: int,
        scale: Positive = 0.5,
        penalty: Penalty = 1.0,
    ) -> None:
        super().__init__(num_arms=num_arms, rng=rng, context_dim=context_dim, penalty=penalty)
        self._scale = scale

    def _distribution(self, context: Floats, arms: Ints) -> Floats:
        x = self._features(context)
        mean, sd = self._ridge.mean(x), self._scale * self._ridge.width(x)
        if len(arms) < self.num_arms:
            mean, sd = mean[:, arms], sd[:, arms]
        return largest_gaussian(mean, sd)


class ImportanceWeighted(Regressor):
    """Classify states by arm, with label a and weight r / p (Beygelzimer & Langford 2009).

    One least-squares classifier against the rest per arm: its score tends to the linear fit of
    E[r_k | x] / sum_j E[r_j | x], whose largest is the best arm.
    """

    def _learn(self, feedback: Feedback) -> None:
        label = np.eye(self.num_arms)[feedback.arm]
        weight = feedback.reward / feedback.probability
        self._ridge.add(self._features(feedback.context), label, weight[:, None])


class DoublyRobust(Regressor):
    """Regress rho(x, k) + 1[k = a] (r - rho(x, a)) / p on the context (Dudik et al. 2011).

    rho is the direct method's prediction before it learns from the same rows, held to [0, 1]; all
    arms learn from every state.
    """

    def __init__(
        self,
        *,
        num_arms: int,
        rng: Generator,
        context_dim: int,
        explore: Exploring = EPSILON,
        penalty: Penalty = 1.0,
    ) -> None:
        super().__init__(
            num_arms=num_arms, rng=rng, context_dim=context_dim, explore=explore, penalty=penalty
        )
        self._direct = Ridge(groups=num_arms, outputs=1, dim=1 + context_dim, penalty=penalty)

    def _learn(self, feedback: Feedback) -> None:
        x = self._features(feedback.context)
        chosen = np.eye(self.num_arms)[feedback.arm]
        reward = feedback.reward[:, None]
        guess = np.clip(self._direct.mean(x), 0.0, 1.0)
        robust = guess + chosen * (reward - guess) / feedback.probability[:, None]
        self._ridge.add(x, robust, np.ones_like(reward))
        self._direct.add(x, reward, chosen)

    def _memory(self) -> State:
        return {**super()._memory(), "direct": self._direct.state()}

    def _recall(self, memory: State) -> None:
        super()._recall(memory)
        self._direct.restore(memory["direct"])

"""Vowpal Wabbit behind the contract of the selectors, where it is installed."""

from typing import Any, Literal

import numpy as np

from tutelage.errors import UserError
from tutelage.selectors.base import ContextualSelector, Generator
from tutelage.specs import Probability
from tutelage.types import Feedback, Floats, Ints, State


class VowpalWabbit(ContextualSelector):
    """``vw --cb_explore_adf`` with epsilon-greedy exploration: a linear model by online gradients.

    ``cb_type`` is how it makes costs of what was logged; mtr is its own default. Its memory is what
    it was told: a restored one is told the same again, in the same order. Raises UserError where
    the package vowpalwabbit is missing.
    """

    def __init__(
        self,
        *,
        num_arms: int,
        rng: Generator,
        context_dim: int,
        cb_type: Literal["dm", "dr", "ips", "mtr"] = "mtr",
        epsilon: Probability = 0.05,
    ) -> None:
        super().__init__(num_arms=num_arms, rng=rng, context_dim=context_dim)
        self._options = (
            f"--cb_explore_adf --cb_type {cb_type} --epsilon {epsilon} -q SA --quiet "
            "--random_seed 1"
        )
        self._told: list[tuple[list[float], int, float, float]] = []
        self._workspace = self._new()

    def _new(self) -> Any:
        try:
            from vowpalwabbit import Workspace
        except ImportError as error:
            raise UserError(
                "selector vw needs the package vowpalwabbit: pip install vowpalwabbit"
            ) from error
        return Workspace(self._options)

    def _lines(self, context: list[float], arms: list[int], labels: dict[int, str]) -> list[str]:
        shared = "shared |S " + " ".join(f"x{i}:{value!r}" for i, value in enumerate(context))
        return [shared, *(f"{labels.get(arm, '')} |A arm{arm}" for arm in arms)]

    def _distribution(self, context: Floats, arms: Ints) -> Floats:
        rows = [self._lines(row, arms.tolist(), {}) for row in context.tolist()]
        p: Floats = np.array([self._workspace.predict(lines) for lines in rows], np.float64)
        p /= p.sum(axis=1, keepdims=True)
        return p

    def _worth(self, context: Floats, arms: Ints) -> Floats:
        return self._distribution(context, arms)

    def _learn(self, feedback: Feedback) -> None:
        rows = zip(
            feedback.context.tolist(),
            feedback.arm.tolist(),
            feedback.reward.tolist(),
            feedback.probability.tolist(),
            strict=True,
        )
        for row in rows:
            self._tell(*row)

    def _tell(self, context: list[float], arm: int, reward: float, probability: float) -> None:
        label = {arm: f"{arm}:{1.0 - reward!r}:{probability!r}"}
        self._workspace.learn(self._lines(context, list(range(self.num_arms)), label))
        self._told.append((context, arm, reward, probability))

    def _memory(self) -> State:
        context, arm, reward, probability = (
            zip(*self._told, strict=True) if self._told else [()] * 4
        )
        return {
            "context": np.array(context, np.float64).reshape(-1, self._dim),
            "arm": np.array(arm, np.int64),
            "reward": np.array(reward, np.float64),
            "probability": np.array(probability, np.float64),
        }

    def _recall(self, memory: State) -> None:
        self._workspace, self._told = self._new(), []
        columns = (np.asarray(memory[k]) for k in ("context", "arm", "reward", "probability"))
        for row in zip(*(column.tolist() for column in columns), strict=True):
            self._tell(*row)

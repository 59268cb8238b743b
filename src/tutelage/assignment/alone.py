"""One teacher, or none: there is nothing to choose."""

from collections.abc import Mapping

import numpy as np

from tutelage.assignment.protocol import Arms, Mask
from tutelage.environments import Step
from tutelage.errors import UserError
from tutelage.types import Array, Feedback, Floats, State


class Alone:
    """The one teacher there is, or none."""

    def begin(self) -> None:
        """Nothing is to be chosen."""

    def leads(self, beta: float, draw: Array) -> Mask:
        """Toss a coin in each env step (Ross et al. 2011)."""
        return np.asarray(draw < beta)

    def arms(self, obs: Array) -> Arms:
        """Return arm 0 for all."""
        return np.zeros(len(obs), np.int64)

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

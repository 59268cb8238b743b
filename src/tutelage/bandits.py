"""Selectors without a context: which teacher to learn from next."""

from typing import Protocol

import numpy as np

from tutelage.types import Choice, State


class Selector(Protocol):
    """Chooses a teacher for each environment."""

    def choose(self, num_envs: int) -> Choice:
        """Return an arm for each of ``num_envs`` environments and how likely it was."""

    def state(self) -> State: ...
    def restore(self, state: State) -> None: ...


class Only:
    """The one teacher there is."""

    def choose(self, num_envs: int) -> Choice:
        """Return arm 0 for all."""
        return Choice(np.zeros(num_envs, np.int64), np.ones(num_envs))

    def state(self) -> State:
        return {}

    def restore(self, state: State) -> None:
        pass

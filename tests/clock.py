"""An environment that shows its seed and the time, so that a test can tell which episode it is."""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tutelage.environments import Environments, Restricted
from tutelage.types import Array

Obs = npt.NDArray[np.int64]


class Clock(gymnasium.Env[Obs, Any]):
    """Observations are [seed of the episode, steps since]; the reward is the sum of the action."""

    def __init__(
        self,
        *,
        length: int,
        terminates: bool = True,
        truncates: bool = False,
        actions: gymnasium.Space[Any] | None = None,
    ) -> None:
        self.observation_space = gymnasium.spaces.Box(0, 2**31, (2,), np.int64)
        self.action_space = gymnasium.spaces.Discrete(4) if actions is None else actions
        self._length = length
        self._ends = (terminates, truncates)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Any]]:
        self._seed, self._time = seed or 0, 0
        return np.array([self._seed, 0]), {}

    def step(self, action: Any) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        self._time += 1
        terminated, truncated = (end and self._time == self._length for end in self._ends)
        reward = float(np.sum(action))
        return np.array([self._seed, self._time]), reward, terminated, truncated, {}


def vector(*, lengths: list[int], **options: Any) -> SyncVectorEnv:
    """Return one clock for each length of episode."""
    return SyncVectorEnv(
        [partial(Clock, length=length, **options) for length in lengths],
        autoreset_mode=AutoresetMode.NEXT_STEP,
    )


def clocks(
    *,
    lengths: list[int],
    seed: int = 1,
    stream: str = "training",
    region: Callable[[Array], npt.NDArray[np.bool_]] | None = None,
    every: float = np.inf,
    episodes: npt.NDArray[np.int64] | float = np.inf,
    **options: Any,
) -> Environments:
    """Return environments of clocks; their observations are ``[N,1,2]``."""
    envs = Environments(
        vector(lengths=lengths, **options),
        seed=seed,
        stream=stream,
        view=lambda obs: obs[:, np.newaxis],
        episodes=episodes,
    )
    return Restricted(envs, region, every) if region else envs

"""An environment that shows its seed and the time, so that a test can tell which episode it is."""

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tutelage.domains import Region
from tutelage.environments import Environments, Restricted

Obs = npt.NDArray[np.int64]


class Clock(gymnasium.Env[Obs, np.int64]):
    """Observations are [seed of the episode, steps since]; the reward is the action."""

    def __init__(self, *, length: int, terminates: bool, truncates: bool) -> None:
        self.observation_space = gymnasium.spaces.Box(0, 2**31, (2,), np.int64)
        self.action_space = gymnasium.spaces.Discrete(4)
        self._length = length
        self._ends = (terminates, truncates)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Any]]:
        self._seed, self._time = seed or 0, 0
        return np.array([self._seed, 0]), {}

    def step(self, action: np.int64) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        self._time += 1
        terminated, truncated = (end and self._time == self._length for end in self._ends)
        return np.array([self._seed, self._time]), float(action), terminated, truncated, {}


def vector(
    *, lengths: list[int], terminates: bool = True, truncates: bool = False
) -> SyncVectorEnv:
    """Return one clock for each length of episode."""
    return SyncVectorEnv(
        [
            partial(Clock, length=length, terminates=terminates, truncates=truncates)
            for length in lengths
        ],
        autoreset_mode=AutoresetMode.NEXT_STEP,
    )


def clocks(
    *,
    lengths: list[int],
    seed: int = 1,
    stream: str = "training",
    terminates: bool = True,
    truncates: bool = False,
    region: Region | None = None,
    every: float = np.inf,
    episodes: npt.NDArray[np.int64] | float = np.inf,
) -> Environments:
    """Return environments of clocks; their observations are ``[N,1,2]``."""
    envs = Environments(
        vector(lengths=lengths, terminates=terminates, truncates=truncates),
        seed=seed,
        stream=stream,
        view=lambda obs: obs[:, np.newaxis],
        episodes=episodes,
    )
    return envs if region is None else Restricted(envs, region, every)

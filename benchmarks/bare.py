"""Emulators and nothing else: what there is to be compared with."""

from collections.abc import Callable

import numpy as np
from ale_py.vector_env import AtariVectorEnv

NUM_ENVS = 16


def emulating(threads: int) -> Callable[[int], int]:
    """Return what plays Pong by random actions for about so many env steps, and says how many."""
    envs = AtariVectorEnv("pong", NUM_ENVS, num_threads=threads, use_fire_reset=False)
    envs.reset(seed=1)
    rng = np.random.default_rng(1)

    def emulate(env_steps: int) -> int:
        for _ in range(env_steps // NUM_ENVS):
            envs.step(rng.integers(6, size=NUM_ENVS))
        return env_steps // NUM_ENVS * NUM_ENVS

    return emulate

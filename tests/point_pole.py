"""CartPole with points, as Pong has them: every 25 steps one is won, with the pole one is lost."""

from typing import Any

import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv

ENV = "PointPole-v0"
RANGE = (-1.0, 4.0)
"""The least and the largest return: episodes last 100 steps."""


class PointPole(gymnasium.Wrapper[Any, Any, Any, Any]):
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        self._standing = 0
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, _, terminated, truncated, info = super().step(action)
        self._standing += 1
        reward = -1.0 if terminated else float(self._standing % 25 == 0)
        return obs, reward, terminated, truncated, info


if ENV not in gymnasium.registry:
    gymnasium.register(
        ENV,
        entry_point=lambda **options: PointPole(CartPoleEnv(**options)),
        max_episode_steps=100,
        reward_threshold=20.0,
    )

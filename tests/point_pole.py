"""CartPole with points: every 25 steps one is won, with the pole one is lost; and its domain."""

from pathlib import Path
from typing import Any

import gymnasium
import torch
from gymnasium.envs.classic_control import CartPoleEnv

from tutelage import models
from tutelage.domains import About, EnvironmentConfig
from tutelage.domains.atari import scored
from tutelage.domains.gym import GymDomain, GymSettings
from tutelage.environments import Environments
from tutelage.heads import QValues
from tutelage.networks import Network, Size

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


class PointPoleDomain(GymDomain):
    """Gymnasium, and that a point ends a segment here."""

    def about(self, env: str) -> About:
        return About(target=20.0, return_range=RANGE, segment_ends=scored)

    def make(self, env: str, *, settings: Any, **given: Any) -> Environments:
        return super().make(env, settings=GymSettings(), **given)


DOMAIN = f"{__name__}:PointPoleDomain"
POINTS = EnvironmentConfig(env=ENV, domain=DOMAIN)


def controller(path: Path, *, env: str = ENV) -> Path:
    """Write a teacher by hand: push towards where the pole falls. It balances for ever."""
    network = Network(Size((), (2,)), (1, 4), QValues(2))
    lean = torch.tensor([0.05, 0.2, 1.0, 0.6])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.body[1].weight.copy_(torch.stack([-lean, lean]))  # type: ignore[operator]
        network.output.weight.copy_(torch.eye(2))
    models.save(path, network, env=env, card={})
    return path

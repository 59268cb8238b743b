"""Gymnasium's environments, and those of packages that register theirs with it."""

from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import AddRenderObservation

from tutelage.domains.base import About
from tutelage.environments import Environments, VectorEnv
from tutelage.errors import UserError


@dataclass(frozen=True, kw_only=True)
class GymSettings:
    """How Gymnasium's environments are run."""

    vector: Literal["sync", "async"] = "sync"
    """Gymnasium: environments step one after the other (sync) or in processes of their own."""


class GymDomain:
    """Any environment that Gymnasium can make."""

    def knows(self, env: str) -> bool:
        """Return True: whatever no other domain knows is tried."""
        return True

    def about(self, env: str) -> About:
        known = gymnasium.registry.get(env)
        threshold = None if known is None else known.reward_threshold
        return About(target=None if threshold is None else float(threshold))

    def make(
        self,
        env: str,
        *,
        num_envs: int,
        settings: Any,
        seed: int,
        stream: str,
        threads: int,
        episodes: npt.NDArray[np.int64] | float,
    ) -> Environments:
        """Return observations ``[N,1,*frame]`` as Gymnasium gives them."""
        given: GymSettings = settings
        vector = _vector(env, num_envs, given)
        return Environments(
            vector, seed=seed, stream=stream, view=lambda obs: obs[:, np.newaxis], episodes=episodes
        )

    def camera(self, env: str, *, settings: Any, seed: int, stream: str) -> Environments:
        def build() -> gymnasium.Env[Any, Any]:
            return AddRenderObservation(gymnasium.make(env, render_mode="rgb_array"))

        try:
            vector = SyncVectorEnv([build], autoreset_mode=AutoresetMode.NEXT_STEP)
        except gymnasium.error.DependencyNotInstalled as error:
            raise UserError(f"filming env {env!r} needs a package: {error}") from error
        # There is no one error for what cannot render: Gymnasium asserts, or complains of types.
        except (
            gymnasium.error.Error,
            AssertionError,
            NotImplementedError,
            TypeError,
            ValueError,
        ) as error:
            raise UserError(f"env {env!r} cannot be filmed: it renders no rgb_array") from error
        return Environments(vector, seed=seed, stream=stream)


def _vector(env: str, num_envs: int, settings: GymSettings) -> VectorEnv:
    try:
        spec = gymnasium.spec(env)
    except gymnasium.error.Error as error:
        raise UserError(
            f"unknown env {env!r}: expected the name of an Atari ROM (breakout, …) "
            f"or a Gymnasium id (CartPole-v1, …); Gymnasium says: {error}"
        ) from error
    if str(spec.entry_point).startswith("ale_py"):
        game = str(spec.kwargs.get("game"))
        raise UserError(f"env {env!r} is an Atari game: name it by its ROM, {game}")
    vector = SyncVectorEnv if settings.vector == "sync" else AsyncVectorEnv
    try:
        made: VectorEnv = vector(
            [lambda: gymnasium.make(env) for _ in range(num_envs)],
            autoreset_mode=AutoresetMode.NEXT_STEP,
        )
    except gymnasium.error.DependencyNotInstalled as error:
        raise UserError(f"env {env!r} needs a package: {error}") from error
    actions, obs = made.single_action_space, made.single_observation_space
    if not isinstance(actions, gymnasium.spaces.Discrete) or actions.start != 0:
        raise UserError(f"env {env!r} has actions {actions}; expected discrete actions from 0 on")
    if not isinstance(obs, gymnasium.spaces.Box):
        raise UserError(f"env {env!r} has observations {obs}; expected one array (a Box)")
    return made

"""Atari's games, emulated by ALE: frame skip 4 with max-pooling, 84 x 84 grey, stacks of 4."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode
from msgspec import Meta

from tutelage.domains.base import About, Mask
from tutelage.environments import Environments, Step, VectorEnv
from tutelage.errors import UserError
from tutelage.types import Array

if TYPE_CHECKING:
    from ale_py.vector_env import AtariVectorEnv

SKIP = 4
"""Frames of a step."""

TWO_SIDED = (
    *("backgammon", "boxing", "double_dunk", "fishing_derby", "ice_hockey", "othello", "pong"),
    *("surround", "tennis", "tic_tac_toe_3d", "video_checkers", "video_chess"),
)
"""The games in which what one side wins the other loses."""


@dataclass(frozen=True, kw_only=True)
class AtariSettings:
    """How a game is emulated and seen."""

    sticky: Annotated[float | None, Meta(ge=0.0, lt=1.0)] = None
    """Atari: probability that the emulator repeats the previous action; by default that of the
    teacher's own game, as its card has it, where the environment is left to the teacher; else 0."""
    frame: Literal[84, 80] = 84
    """Atari: 84 (area-resized, the field's habit) or 80 (every second pixel of the cropped screen,
    as in the code of the paper's authors)."""
    clip_rewards: bool = False
    """Atari: train on the sign of the reward (evaluation never clips)."""
    noop_max: Annotated[int, Meta(ge=0, le=10_000)] = 30
    """Atari: an episode starts with fewer no-ops than this, how many is drawn; 0: with none."""
    full_actions: bool = False
    """Atari: act by all 18 of the joystick's actions instead of those that matter in the game."""
    fire_reset: bool = False
    """Atari: press FIRE as an episode starts, in games that wait for it."""
    life_loss: bool = False
    """Atari: in training no value lies beyond a lost life (evaluation plays on all the same)."""
    pool_frames: Literal[2, 4] = 2
    """Atari: of the 4 frames of a step the last 2 or all 4 are pooled by their maximum; 4 is for
    games that draw a thing in every fourth frame only, and slower."""


class AtariDomain:
    """Atari's games, by the names of their ROMs."""

    def knows(self, env: str) -> bool:
        try:
            import ale_py.roms
        except ImportError:
            return env == "pong"
        return env in ale_py.roms.get_all_rom_ids()

    def about(self, env: str) -> About:
        if env == "pong":
            from tutelage.domains import pong

            return pong.ABOUT
        return About(segment_ends=scored if env in TWO_SIDED else None)

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
        """Return observations ``[N,4,84,84]`` (or ``[N,4,80,80]``) uint8, newest frame last."""
        if not self.knows(env):
            raise UserError(f"unknown Atari game {env!r}: expected the name of a ROM (breakout, …)")
        given: AtariSettings = settings
        height, width = (84, 84) if given.frame == 84 else (210, 160)
        view: Callable[[Array], Array] = (lambda obs: obs) if given.frame == 84 else _crop80
        emulated = emulators(
            env, given, num_envs=num_envs, threads=threads, height=height, width=width
        )
        return Environments(
            emulated,
            seed=seed,
            stream=stream,
            view=view,
            episodes=episodes,
            life_loss=given.life_loss,
        )

    def camera(self, env: str, *, settings: Any, seed: int, stream: str) -> Environments:
        shown = emulators(
            env,
            settings,
            num_envs=1,
            threads=1,
            height=210,
            width=160,
            grayscale=False,
            stack_num=1,
        )
        return Environments(shown, seed=seed, stream=stream, view=lambda obs: obs[:, 0])

    def preprocessing(self, env: str, *, settings: Any) -> dict[str, Any]:
        given: AtariSettings = settings
        cropped = "rows 35 to 194 of the full frame, every second pixel"
        return {
            "emulator": "ALE",
            "frame_skip": 4,
            "max_pool": f"of the last {given.pool_frames} of the four frames",
            "actions": "all 18" if given.full_actions else "the game's own",
            "colour": "grey, 0 to 255",
            "resize": "84 x 84 by area" if given.frame == 84 else cropped,
            "stack": 4,
            "stack_begins": "zeros",
            "noop_max": given.noop_max,
            "sticky": given.sticky or 0.0,
            "fire_reset": given.fire_reset,
            "life_loss_ends": False,
        }

    def actions(self, env: str, *, settings: Any) -> tuple[int, ...]:
        """Return the joystick's actions that a game has, of all 18."""
        single: Any = emulators(
            env, replace(settings, pool_frames=2), num_envs=1, threads=1, height=84, width=84
        )
        try:
            return tuple(action.value for action in single.ale.get_action_set())
        finally:
            single.close()

    def seen(self, obs_shape: tuple[int, ...], card: Mapping[str, Any]) -> AtariSettings:
        """Return the settings by which a network of such frames and such a card knows its game.

        What is for training only is not among them.
        """
        made: Any = card
        for key in ("config", "environment", "atari"):
            made = made.get(key) if isinstance(made, Mapping) else None
        given = made if isinstance(made, Mapping) else {}
        sticky = given.get("sticky")
        return AtariSettings(
            sticky=sticky if isinstance(sticky, int | float) and 0 <= sticky < 1 else None,
            frame=80 if obs_shape[-1:] == (80,) else 84,
            full_actions=given.get("full_actions") is True,
            fire_reset=given.get("fire_reset") is True,
            pool_frames=4 if given.get("pool_frames") == 4 else 2,
        )


def scored(step: Step) -> Mask:
    """Return where a point was won or lost, ``[N]``, or the episode ended."""
    return np.asarray((step.reward != 0) | step.terminated | step.truncated)


def emulators(
    env: str,
    settings: AtariSettings,
    *,
    num_envs: int,
    threads: int,
    height: int,
    width: int,
    grayscale: bool = True,
    stack_num: int = 4,
) -> VectorEnv:
    """Return the emulators of a game; equal seeds and actions keep any two in step."""
    try:
        from ale_py.vector_env import AtariVectorEnv
    except ImportError as error:
        raise UserError(
            f"{env} is an Atari game, which needs the package ale-py: pip install 'tutelage[atari]'"
        ) from error

    def build(**frames: Any) -> "AtariVectorEnv":
        return AtariVectorEnv(
            env,
            num_envs,
            num_threads=threads,
            img_height=height,
            img_width=width,
            grayscale=grayscale,
            repeat_action_probability=settings.sticky or 0.0,
            noop_max=settings.noop_max,
            use_fire_reset=settings.fire_reset,
            full_action_space=settings.full_actions,
            autoreset_mode=AutoresetMode.NEXT_STEP,
            **frames,
        )

    if settings.pool_frames == 2:
        return build(stack_num=stack_num, reward_clipping=settings.clip_rewards)
    single = build(stack_num=1, frameskip=1, maxpool=False, reward_clipping=False)
    return Pooled(single, stack=stack_num, pool=settings.pool_frames, clip=settings.clip_rewards)


class Pooled(gymnasium.vector.VectorEnv[Array, Any, Array]):
    """Emulators that give every frame, made to give a step of four, the last ``pool`` as one.

    ALE's own pool the last two. Frames are resized before they are pooled.
    """

    def __init__(self, frames: "AtariVectorEnv", *, stack: int, pool: int, clip: bool) -> None:
        """Take over ``frames``, which say each frame alone: ``[N,1,height,width]``."""
        self._frames = frames
        self._pool = pool
        self._clip = clip
        self.num_envs = frames.num_envs
        self.single_action_space = frames.single_action_space
        _, *frame = frames.single_observation_space.shape or ()
        self._stacks = np.zeros((self.num_envs, stack, *frame), np.uint8)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        """Begin the episodes that ``options`` name by ``reset_mask``, or all."""
        given = options or {}
        obs, info = self._frames.reset(seed=seed, options=options)
        which = given.get("reset_mask", np.ones(self.num_envs, np.bool_))
        self._stacks[which] = 0
        self._stacks[which, -1] = obs[which, -1]
        return self._stacks.copy(), info

    def send(self, action: Array) -> None:
        """Begin a step."""
        self._action = action
        self._frames.send(action)

    def recv(self) -> tuple[Array, Array, Mask, Mask, Mapping[str, Any]]:
        """Finish a step; what ends within it stays as it was at its end."""
        total = np.zeros(self.num_envs)
        terminated, truncated = (np.zeros(self.num_envs, np.bool_) for _ in range(2))
        pooled = np.zeros_like(self._stacks[:, 0])
        info: dict[str, Array] = {}
        for frame in range(SKIP):
            if frame:
                self._frames.send(self._action)
            obs, reward, ends, cuts, given = self._frames.recv()
            goes_on = ~(terminated | truncated)
            info = {
                key: np.where(goes_on, new, info[key]) if frame else new.copy()
                for key, new in given.items()
            }
            total += np.where(goes_on, reward, 0)
            terminated |= goes_on & ends
            truncated |= goes_on & cuts
            if frame >= SKIP - self._pool:
                pooled[goes_on] = np.maximum(pooled[goes_on], obs[goes_on, -1])
        self._stacks = np.concatenate([self._stacks[:, 1:], pooled[:, None]], axis=1)
        reward = np.clip(total, -1, 1) if self._clip else total
        return self._stacks.copy(), reward, terminated, truncated, info

    def close(self, **options: Any) -> None:
        """Release the emulators."""
        self._frames.close(**options)


def _crop80(obs: Array) -> Array:
    """Return rows 35 to 194 of the full frame, every second pixel."""
    return np.ascontiguousarray(obs[:, :, 35:195:2, ::2])

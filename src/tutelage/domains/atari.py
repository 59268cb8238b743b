"""Atari's games, emulated by ALE: frame skip 4 with max-pooling, 84 x 84 grey, stacks of 4."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode
from msgspec import Meta

from tutelage.domains.base import About, Mask
from tutelage.environments import Environments, Step
from tutelage.errors import UserError
from tutelage.types import Array

if TYPE_CHECKING:
    from ale_py.vector_env import AtariVectorEnv

TWO_SIDED = (
    *("backgammon", "boxing", "double_dunk", "fishing_derby", "ice_hockey", "othello", "pong"),
    *("surround", "tennis", "tic_tac_toe_3d", "video_checkers", "video_chess"),
)
"""The games in which what one side wins the other loses."""


@dataclass(frozen=True, kw_only=True)
class AtariSettings:
    """How a game is emulated and seen."""

    sticky: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.0
    """Atari: probability that the emulator repeats the previous action."""
    frame: Literal[84, 80] = 84
    """Atari: 84 (area-resized, the field's habit) or 80 (every second pixel of the cropped screen,
    as in the code of the paper's authors)."""
    clip_rewards: bool = False
    """Atari: train on the sign of the reward (evaluation never clips)."""
    all_actions: bool = False
    """Atari: act by all 18 of the joystick's actions, not by the game's own only: for policies that
    were trained so."""
    noop_max: Annotated[int, Meta(ge=0, le=10_000)] = 30
    """Atari: an episode starts with fewer no-ops than this, how many is drawn; 0: with none."""


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
        return Environments(emulated, seed=seed, stream=stream, view=view, episodes=episodes)

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
            "emulator": "ALE, the game's minimal actions",
            "frame_skip": 4,
            "max_pool": "of the last two of the four frames",
            "colour": "grey, 0 to 255",
            "resize": "84 x 84 by area" if given.frame == 84 else cropped,
            "stack": 4,
            "stack_begins": "zeros",
            "noop_max": given.noop_max,
            "sticky": given.sticky,
            "fire_reset": False,
            "life_loss_ends": False,
        }

    def seen(self, obs_shape: tuple[int, ...]) -> AtariSettings:
        """Return the settings by which a network sees frames of ``obs_shape``."""
        return AtariSettings(frame=80 if obs_shape[-1:] == (80,) else 84)


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
) -> "AtariVectorEnv":
    """Return the emulators of a game; equal seeds and actions keep any two in step."""
    try:
        from ale_py.vector_env import AtariVectorEnv
    except ImportError as error:
        raise UserError(
            f"{env} is an Atari game, which needs the package ale-py: pip install 'tutelage[atari]'"
        ) from error
    return AtariVectorEnv(
        env,
        num_envs,
        num_threads=threads,
        img_height=height,
        img_width=width,
        grayscale=grayscale,
        stack_num=stack_num,
        repeat_action_probability=settings.sticky,
        full_action_space=settings.all_actions,
        noop_max=settings.noop_max,
        reward_clipping=settings.clip_rewards,
        use_fire_reset=False,
        autoreset_mode=AutoresetMode.NEXT_STEP,
    )


def _crop80(obs: Array) -> Array:
    """Return rows 35 to 194 of the full frame, every second pixel."""
    return np.ascontiguousarray(obs[:, :, 35:195:2, ::2])

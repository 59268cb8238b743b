"""Which game the agent lives in, and how it is made: Atari's emulators or Gymnasium's environments.

Preprocessing happens here alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import ale_py.roms
import gymnasium
import numpy as np
import numpy.typing as npt
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tutelage.domains.pong import Region, parse_region
from tutelage.environments import Environments, VectorEnv
from tutelage.errors import UserError, choose_from
from tutelage.ranges import check_numbers
from tutelage.types import Array

RETURNS = {"pong": (-21.0, 21.0)}
"""The least and the largest return of games where both are known."""

TWO_SIDED = (
    *("backgammon", "boxing", "double_dunk", "fishing_derby", "ice_hockey", "othello", "pong"),
    *("surround", "tennis", "tic_tac_toe_3d", "video_checkers", "video_chess"),
)
"""The Atari games in which what one side wins the other loses."""


@dataclass(frozen=True, kw_only=True)
class EnvironmentConfig:
    """Where the agent lives."""

    env: str = "pong"
    """An Atari game by its ROM's name (pong, ms_pacman, …) or a Gymnasium id (CartPole-v1, …)."""
    num_envs: int = 16
    """Environments in parallel."""
    sticky: float = 0.0
    """Atari: probability that the emulator repeats the previous action."""
    frame: int = 84
    """Atari: 84 (area-resized, the field's habit) or 80 (the crop of the paper's own code)."""
    clip_rewards: bool = False
    """Atari: train on the sign of the reward (evaluation never clips)."""
    noop_max: int = 30
    """Atari: an episode starts with fewer no-ops than this, how many is drawn; 0: with none."""
    only: str = ""
    """Pong: ball-top or ball-bottom; elsewhere the last action is repeated and nothing counts, or
    by ball-top:2 only in every other step, as in the authors' code."""

    def __post_init__(self) -> None:
        """Raise UserError for numbers that make no sense."""
        check_numbers(self)


def is_atari(env: str) -> bool:
    """Return whether this is the name of an Atari ROM."""
    return env in ale_py.roms.get_all_rom_ids()


def has_segments(env: str) -> bool:
    """Return whether rewards above and below 0 are segments won and lost.

    They are not in Gymnasium's own environments; of another's we cannot know, and say yes.
    """
    if is_atari(env):
        return env in TWO_SIDED
    known = gymnasium.registry.get(env)
    return known is None or not str(known.entry_point).startswith("gymnasium.envs.")


def usual_target(env: str) -> float:
    """Return the mean return at which an environment counts as mastered.

    Pong's is the paper's 20; others have the reward threshold that Gymnasium knows. Raises
    UserError where there is none.
    """
    if env == "pong":
        return 20.0
    known = gymnasium.registry.get(env)
    if known is None or known.reward_threshold is None:
        raise UserError(f"no target is known for {env}: name one by target_return")
    return float(known.reward_threshold)


def make(
    config: EnvironmentConfig,
    *,
    seed: int,
    stream: str = "training",
    threads: int = 0,
    episodes: npt.NDArray[np.int64] | float = np.inf,
) -> Environments:
    """Build the environments that ``config`` names.

    Atari observations are ``[N,4,84,84]`` (or ``[N,4,80,80]``) uint8, of frame skip 4 with
    max-pooling; others are ``[N,1,*frame]`` as Gymnasium gives them. ``threads`` emulator threads
    (0: as many as the machine has); ``episodes`` or ``episodes[N]`` are all that is looked at.
    Raises UserError for what cannot be built.
    """
    if config.frame not in (84, 80):
        raise choose_from("frame size", str(config.frame), ["84", "80"])
    region, every = _parse_only(config.only) if config.only else (None, np.inf)
    if region is not None and config.env != "pong":
        raise UserError(f"only {config.only!r} is a region of pong, this is {config.env}")
    if is_atari(config.env):
        height, width = (84, 84) if config.frame == 84 else (210, 160)
        env: VectorEnv = emulators(config, threads=threads, height=height, width=width)
        view: Callable[[Array], Array] = (lambda obs: obs) if config.frame == 84 else _crop80
    else:
        env, view = _gymnasium(config), lambda obs: obs[:, np.newaxis]
    return Environments(
        env,
        seed=seed,
        stream=stream,
        view=view,
        region=region,
        every=every,
        episodes=episodes,
    )


def _parse_only(text: str) -> tuple[Region, float]:
    """Return the region and how often the agent acts outside of it, as ``ball-top:2`` spells."""
    name, colon, number = text.partition(":")
    region = parse_region(name)
    if not colon:
        return region, np.inf
    if not number.isdecimal() or int(number) < 2:
        raise UserError(f"only {text!r}: expected a whole number of 2 or more, as in {name}:2")
    return region, int(number)


def emulators(
    config: EnvironmentConfig,
    *,
    threads: int,
    height: int,
    width: int,
    grayscale: bool = True,
    stack_num: int = 4,
) -> AtariVectorEnv:
    """Return Atari's emulators; equal seeds and actions keep any two in step."""
    return AtariVectorEnv(
        config.env,
        config.num_envs,
        num_threads=threads,
        img_height=height,
        img_width=width,
        grayscale=grayscale,
        stack_num=stack_num,
        repeat_action_probability=config.sticky,
        noop_max=config.noop_max,
        reward_clipping=config.clip_rewards,
        use_fire_reset=False,
        autoreset_mode=AutoresetMode.NEXT_STEP,
    )


def _gymnasium(config: EnvironmentConfig) -> VectorEnv:
    if config.sticky or config.clip_rewards:
        raise UserError(f"sticky and clip_rewards are Atari's, this is {config.env}")
    try:
        spec = gymnasium.spec(config.env)
    except gymnasium.error.Error as error:
        raise UserError(
            f"unknown env {config.env!r}: expected the name of an Atari ROM (pong, breakout, …) "
            f"or a Gymnasium id (CartPole-v1, …); Gymnasium says: {error}"
        ) from error
    game = str(spec.kwargs.get("game"))
    if str(spec.entry_point).startswith("ale_py") and is_atari(game):
        raise UserError(f"env {config.env!r} is an Atari game: name it by its ROM, {game}")
    try:
        env = SyncVectorEnv(
            [lambda: gymnasium.make(config.env) for _ in range(config.num_envs)],
            autoreset_mode=AutoresetMode.NEXT_STEP,
        )
    except gymnasium.error.DependencyNotInstalled as error:
        raise UserError(f"env {config.env!r} needs a package: {error}") from error
    actions, obs = env.single_action_space, env.single_observation_space
    if not isinstance(actions, gymnasium.spaces.Discrete) or actions.start != 0:
        raise UserError(
            f"env {config.env!r} has actions {actions}; expected discrete actions from 0 on"
        )
    if not isinstance(obs, gymnasium.spaces.Box):
        raise UserError(f"env {config.env!r} has observations {obs}; expected one array (a Box)")
    return env


def _crop80(obs: Array) -> Array:
    """Rows 35 to 194 of the full frame, every second pixel: the paper's own 80x80 input."""
    return np.ascontiguousarray(obs[:, :, 35:195:2, ::2])

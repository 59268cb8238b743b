"""Vector environments: Atari through ALE's own vector class, and any Gymnasium environment.

This is the one place that knows about autoreset, truncation and preprocessing. Every episode
starts from a seed of its own, drawn from (run seed, environment, episode number), and the actions
since then are kept. An emulator that cannot be cloned can so be put back exactly where it was:
reset to the episode's seed, replay its actions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import ale_py.roms
import gymnasium
import numpy as np
import numpy.typing as npt
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tutelage.errors import UserError, choose_from
from tutelage.features import Region, parse_region
from tutelage.types import Array, State, Transitions, seeded

RETURNS = {"pong": (-21.0, 21.0)}
"""The least and the largest return of games where both are known."""

VectorEnv = gymnasium.vector.VectorEnv[Any, Any, Any]


@dataclass(frozen=True)
class Step:
    """What one step of all environments gave."""

    next_obs: Array
    """``[N,*O]``, what the action led to: at an episode's end its true last observation."""
    reward: npt.NDArray[np.float32]
    """``[N]``, unclipped unless clipping was asked for."""
    terminated: npt.NDArray[np.bool_]
    """``[N]``, the task itself ended: no value lies beyond."""
    truncated: npt.NDArray[np.bool_]
    """``[N]``, a limit of steps cut the episode: its last observation still has a value."""
    finished: tuple[tuple[float, int], ...]
    """(return, length) of each episode that ended in this step, by environment."""


class Environments:
    """N environments in step, with seeded, replayable episodes.

    ``obs[N,*O]`` is what a policy acts on now. ``send(action)`` starts a step and ``recv()`` ends
    it, so that learning can overlap emulation; ``recv`` also resets what ended.
    """

    def __init__(
        self,
        env: VectorEnv,
        *,
        seed: int,
        stream: str = "training",
        view: Callable[[Array], Array] = lambda obs: obs,
        region: Region | None = None,
        every: float = np.inf,
        episodes: npt.NDArray[np.int64] | float = np.inf,
    ) -> None:
        """Wrap ``env``; ``stream`` names a set of episode seeds disjoint from every other's.

        Outside of ``region`` the last action is repeated and no reward counts, but in every
        ``every``-th step. Episodes beyond ``episodes`` are not seeded: a seeded reset loads the
        game anew, a tenth of a second.
        """
        self._env = env
        self._view = view
        self._seed = seed
        self._stream = stream
        self._region = region
        self._every = every
        self._episodes = episodes
        self._send, self._recv, self._reset_env = _driver(env)
        self.num_envs = env.num_envs
        self.num_actions = int(cast(gymnasium.spaces.Discrete, env.single_action_space).n)
        self._episode = np.zeros(self.num_envs, np.int64)
        self._returns = np.zeros(self.num_envs, np.float64)
        self._actions: list[list[int]] = [[] for _ in range(self.num_envs)]
        # For how many steps the last action has been repeated.
        self._repeated: npt.NDArray[np.int64] = np.zeros(self.num_envs, np.int64)
        self.obs = self._reset(np.ones(self.num_envs, np.bool_))
        self._look()

    @property
    def inside(self) -> npt.NDArray[np.bool_]:
        """``[N]``, where the next action is the agent's own and its reward counts."""
        return np.equal(self._repeated, 0)

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """``(stack, *frame)`` of one observation."""
        return self.obs.shape[1:]

    def send(self, action: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Start a step with ``action[N]``; return what is really done."""
        if self._region is not None:
            last = [log[-1] if log else 0 for log in self._actions]
            action = np.where(self.inside, action, last)
        for log, a in zip(self._actions, action.tolist(), strict=True):
            log.append(a)
        self._send(action)
        return action

    def recv(self) -> Step:
        """Finish the step that ``send`` started."""
        obs, reward, terminated, truncated = self._recv()
        reward = reward * self.inside
        self._returns += reward
        ended = terminated | truncated
        finished = tuple(
            (float(self._returns[i]), len(self._actions[i])) for i in np.flatnonzero(ended)
        )
        next_obs = self._view(obs)
        self.obs = next_obs
        if finished:
            self._episode[ended] += 1
            self._returns[ended] = 0.0
            self._repeated[ended] = 0
            for i in np.flatnonzero(ended):
                self._actions[i] = []
            if (again := ended & (self._episode < self._episodes)).any():
                self.obs = self._reset(again)
        self._look()
        return Step(
            next_obs, reward.astype(np.float32), terminated, truncated & ~terminated, finished
        )

    def step(self, action: npt.NDArray[np.int64]) -> Step:
        """Send and receive at once."""
        self.send(action)
        return self.recv()

    def play(
        self, action: npt.NDArray[np.int64], teacher_q: npt.NDArray[np.float32]
    ) -> Transitions:
        """Step and return what a replay stores of it, ``teacher_q[N,A]`` beside each state."""
        obs, inside = self.obs, self.inside
        action = self.send(action)
        arm = np.zeros(self.num_envs, np.int64)
        return transitions(obs, action, self.recv(), teacher_q, inside, arm)

    def close(self) -> None:
        """Release the emulators."""
        self._env.close()

    def state(self) -> State:
        """Return what puts every emulator back: its episode's number and actions so far."""
        return {
            "episode": self._episode.copy(),
            "returns": self._returns.copy(),
            "repeated": self._repeated.copy(),
            "lengths": np.array([len(log) for log in self._actions], np.int64),
            "actions": np.array([a for log in self._actions for a in log], np.int16),
        }

    def restore(self, state: State) -> None:
        """Replay the current episodes, aligned so that all of them end at the present."""
        lengths = np.asarray(state["lengths"])
        logs = np.split(np.asarray(state["actions"], np.int64), np.cumsum(lengths)[:-1])
        self._actions = [log.tolist() for log in logs]
        self._episode = np.asarray(state["episode"]).copy()
        self._returns = np.asarray(state["returns"]).copy()
        self._repeated = np.asarray(state["repeated"]).copy()
        for ago in range(int(lengths.max()), 0, -1):
            if (begins := lengths == ago).any():
                self._reset(begins)
            self._send(np.array([log[-ago] if ago <= len(log) else 0 for log in logs]))
            self.obs = self._view(self._recv()[0])
        if (fresh := lengths == 0).any():
            self.obs = self._reset(fresh)

    def _look(self) -> None:
        if self._region is not None:
            again = self._repeated + 1
            acts = self._region(self.obs) | (again >= self._every)
            self._repeated = np.where(acts, 0, again)

    def _reset(self, mask: npt.NDArray[np.bool_]) -> Array:
        def episode_seed(i: int) -> int:
            words = seeded(self._seed, self._stream, i, int(self._episode[i])).generate_state(1)
            return int(words[0] >> 1)  # ALE takes a signed 32-bit seed

        return self._view(
            self._reset_env(np.array([episode_seed(i) for i in range(self.num_envs)]), mask)
        )


def transitions(
    obs: Array,
    action: npt.NDArray[np.int64],
    step: Step,
    teacher_q: npt.NDArray[np.float32],
    inside: npt.NDArray[np.bool_],
    arm: npt.NDArray[np.int64],
) -> Transitions:
    """Join what was known before a step with what came of it."""
    return Transitions(
        obs,
        action,
        step.reward,
        step.terminated,
        step.truncated,
        step.next_obs,
        teacher_q,
        inside,
        arm,
    )


_Outcome = tuple[Array, Array, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]


def _driver(
    env: VectorEnv,
) -> tuple[
    Callable[[Array], None], Callable[[], _Outcome], Callable[[Array, npt.NDArray[np.bool_]], Array]
]:
    """Return send, recv and masked reset of either kind of vector environment."""
    if isinstance(env, AtariVectorEnv):
        atari = env

        def reset(seeds: Array, mask: npt.NDArray[np.bool_]) -> Array:
            return np.asarray(atari.reset(seed=seeds[mask], options={"reset_mask": mask})[0])

        # ALE wants one whole reset before any partial one; unseeded, it is twenty times faster.
        atari.reset()
        return atari.send, lambda: atari.recv()[:4], reset

    sent: list[Array] = []

    def recv() -> _Outcome:
        obs, reward, terminated, truncated, _ = env.step(sent.pop())
        return np.array(obs), reward.copy(), terminated.copy(), truncated.copy()

    def reset_some(seeds: Array, mask: npt.NDArray[np.bool_]) -> Array:
        return np.array(env.reset(seed=seeds.tolist(), options={"reset_mask": mask})[0])

    return sent.append, recv, reset_some


def _crop80(obs: Array) -> Array:
    """Rows 35 to 194 of the full frame, every second pixel: the paper's own 80x80 input."""
    return np.ascontiguousarray(obs[:, :, 35:195:2, ::2])


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
    """Atari: up to so many no-ops at the start of an episode."""
    only: str = ""
    """Pong: ball-top or ball-bottom; elsewhere the last action is repeated and nothing counts, or
    by ball-top:2 only in every other step, as in the authors' code."""


def is_atari(env: str) -> bool:
    """Return whether this is the name of an Atari ROM."""
    return env in ale_py.roms.get_all_rom_ids()


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
    if config.num_envs < 1:
        raise UserError(f"num_envs must be at least 1, got {config.num_envs}")
    if not 0.0 <= config.sticky < 1.0:
        raise UserError(f"sticky must be in [0, 1), got {config.sticky}")
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
        gymnasium.spec(config.env)
    except gymnasium.error.Error as error:
        raise UserError(
            f"unknown env {config.env!r}: expected the name of an Atari ROM (pong, breakout, …) "
            f"or a Gymnasium id (CartPole-v1, …); Gymnasium says: {error}"
        ) from error
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

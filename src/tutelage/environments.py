"""N environments in step, their episodes replayable, their ends told apart.

This is the one place that knows about autoreset and truncation. Every episode starts from a seed
of its own, drawn from (run seed, environment, episode number), and the actions since then are kept.
An emulator that cannot be cloned can so be put back exactly where it was: reset to the episode's
seed, replay its actions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import gymnasium
import numpy as np
import numpy.typing as npt
from ale_py.vector_env import AtariVectorEnv

from tutelage.domains.pong import Region
from tutelage.types import Array, State, Transitions, seeded

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

    def play(self, action: npt.NDArray[np.int64], label: npt.NDArray[np.float32]) -> Transitions:
        """Step and return what a replay stores of it, ``label[N,A]`` beside each state."""
        obs, inside = self.obs, self.inside
        action = self.send(action)
        arm = np.zeros(self.num_envs, np.int64)
        return transitions(obs, action, self.recv(), label, inside, arm)

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
    label: npt.NDArray[np.float32],
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
        label,
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

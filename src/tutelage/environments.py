"""N environments in step, their episodes replayable, their ends told apart.

This is the one place that knows about autoreset and truncation. Every episode starts from a seed
of its own, drawn from (run seed, environment, episode number), and the actions since then are kept.
An emulator that cannot be cloned can so be put back exactly where it was: reset to the episode's
seed, replay its actions.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

import gymnasium
import numpy as np
import numpy.typing as npt

from tutelage.errors import FaultyEnvironmentError, UserError
from tutelage.heads import head_for, to_space
from tutelage.types import Array, State, Transitions, restored, seeded

VectorEnv = gymnasium.vector.VectorEnv[Any, Any, Any]
Parts = Mapping[str, gymnasium.Space[Any]]
Mask = npt.NDArray[np.bool_]
Answer = TypeVar("Answer")


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
    lost: Mask | None = None
    """``[N]``, where a life was lost that counts as an end, though the episode goes on."""


@dataclass(frozen=True)
class Spaces:
    """What a policy has to fit."""

    actions: gymnasium.Space[Any]
    parts: Parts = field(default_factory=dict)
    """Of the Dict that it sees as one vector, by key; none of anything else."""
    obs: Array | None = None
    """An observation, ``[1,*O]``."""
    env: str = "the environment"
    """What it is called."""


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
        view: Callable[[Any], Array] = lambda obs: obs,
        teacher_view: Callable[[Any], Array] | None = None,
        parts: Parts = MappingProxyType({}),
        teacher_parts: Parts = MappingProxyType({}),
        episodes: npt.NDArray[np.int64] | float = np.inf,
        life_loss: bool = False,
    ) -> None:
        """Wrap ``env``; ``stream`` names a set of episode seeds disjoint from every other's.

        ``view`` makes ``obs[N,*O]`` of what ``env`` gives, ``teacher_view`` what teachers see if
        that is something else; ``parts`` are those of a Dict that are joined in each. Episodes
        beyond ``episodes`` are not seeded: a seeded reset loads a game anew, a tenth of a second.
        With ``life_loss`` steps say where ``info["lives"]`` fell.
        """
        self._env = env
        self._view = view
        self._teacher_view = teacher_view
        self._seed = seed
        self._stream = stream
        self._episodes = episodes
        self._life_loss = life_loss
        self._lives: npt.NDArray[np.integer] = np.zeros(env.num_envs, np.int64)
        self._send, self._recv, self._reset_env = _driver(env)
        self.num_envs = env.num_envs
        self.action_space = env.single_action_space
        self.name = "the environment"
        self._parts = parts
        self._teacher_parts = teacher_parts
        self._episode = np.zeros(self.num_envs, np.int64)
        self._returns = np.zeros(self.num_envs, np.float64)
        self._actions: list[list[Array]] = [[] for _ in range(self.num_envs)]
        # As a head has it, whatever the space's shape: one number of a Box of no dimensions too.
        one = isinstance(self.action_space, gymnasium.spaces.Discrete)
        flat = () if one else (math.prod(self.action_space.shape or ()),)
        self._idle = np.zeros(flat, self.action_space.dtype)
        self._raw: Any = None
        self._asked = False  # and not answered
        self.action_mask: Mask | None = None
        """``[N,A]``, the actions that are to be had now, where the environment says so."""
        self.obs = self._reset(np.ones(self.num_envs, np.bool_))
        if not self.obs.size:
            raise UserError(f"observations {env.single_observation_space} hold no numbers")

    @property
    def spaces(self) -> Spaces:
        """What the student has to fit."""
        return Spaces(self.action_space, self._parts, self.obs[:1], self.name)

    @property
    def teacher_spaces(self) -> Spaces:
        """What a teacher has to fit."""
        return Spaces(self.action_space, self._teacher_parts, self.teacher_obs[:1], self.name)

    @property
    def teacher_obs(self) -> Array:
        """What a teacher sees now, ``[N,*O]``."""
        return self.obs if self._teacher_view is None else self._teacher_view(self._raw)

    @property
    def inside(self) -> Mask:
        """``[N]``, where the next action is the agent's own and its reward counts."""
        return np.ones(self.num_envs, np.bool_)

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """``(stack, *frame)`` of one observation."""
        return self.obs.shape[1:]

    def last_action(self) -> Array:
        """Return what each environment did last, ``[N,*A]``; zeros where an episode begins."""
        return np.stack([log[-1] if log else self._idle for log in self._actions])

    def send(self, action: Array) -> Array:
        """Start a step with a head's ``action[N,*A]``; return what is really done."""
        for log, a in zip(self._actions, action, strict=True):
            log.append(a)
        self._send(to_space(action, self.action_space))
        return action

    def recv(self) -> Step:
        """Finish the step that ``send`` started."""
        return self._finish(np.ones(self.num_envs, np.bool_))

    def _finish(self, counts: Mask) -> Step:
        """Finish a step whose reward counts where ``counts[N]``."""
        before = self._lives
        raw, reward, terminated, truncated, info = self._guarded(self._recv)
        next_obs = self._see(raw, info)
        self._check_finite(next_obs, reward)
        reward = reward * counts
        self._returns += reward
        ended = terminated | truncated
        finished = tuple(
            (float(self._returns[i]), len(self._actions[i])) for i in np.flatnonzero(ended)
        )
        lost = (self._lives < before) & ~ended if self._life_loss else None
        self.obs = next_obs
        if finished:
            self._begin(ended)
        self._check_mask(~ended)
        return Step(
            next_obs,
            reward.astype(np.float32),
            terminated,
            truncated & ~terminated,
            finished,
            lost,
        )

    @property
    def ages(self) -> npt.NDArray[np.int64]:
        """``[N]``, the env steps of each episode so far."""
        return np.array([len(log) for log in self._actions])

    def cut(self, mask: Mask) -> tuple[tuple[float, int], ...]:
        """End the episodes of ``mask[N]`` here and begin new ones; return what they came to."""
        which = np.flatnonzero(mask)
        finished = tuple((float(self._returns[i]), len(self._actions[i])) for i in which)
        self._begin(mask)
        return finished

    def _begin(self, ended: Mask) -> None:
        """Begin the next episodes of ``ended[N]``."""
        self._episode[ended] += 1
        self._returns[ended] = 0.0
        for i in np.flatnonzero(ended):
            self._actions[i] = []
        if (again := ended & (self._episode < self._episodes)).any():
            self.obs = self._reset(again)

    def step(self, action: Array) -> Step:
        """Send and receive at once."""
        self.send(action)
        return self.recv()

    def play(self, action: Array, label: npt.NDArray[np.float32]) -> Transitions:
        """Step and return what a replay stores of it, ``label[N,L]`` beside each state."""
        obs, inside = self.obs, self.inside
        action = self.send(action)
        arm = np.zeros(self.num_envs, np.int64)
        return transitions(obs, action, self.recv(), label, inside, arm)

    def close(self) -> None:
        """Release the emulators; processes of theirs that may never answer are killed."""
        processes = getattr(self._env, "processes", ()) if self._asked else ()
        for process in processes:
            process.kill()
            process.join()
        if processes:
            self._env.closed = True
        else:
            self._env.close()

    def state(self) -> State:
        """Return what puts every emulator back: its episode's number and actions so far."""
        actions = [a for log in self._actions for a in log]
        return {
            "episode": self._episode.copy(),
            "returns": self._returns.copy(),
            "lengths": np.array([len(log) for log in self._actions], np.int64),
            "actions": np.stack(actions) if actions else self.last_action()[:0],
        }

    def restore(self, state: State) -> None:
        """Replay the current episodes, aligned so that all of them end at the present."""
        lengths, actions = restored(state["lengths"], self._episode), np.asarray(state["actions"])
        if (lengths < 0).any() or lengths.sum() != len(actions):
            raise ValueError(f"episodes of lengths {lengths} have {len(actions)} actions")
        logs = np.split(actions, np.cumsum(lengths)[:-1])
        self._actions = [list(log) for log in logs]
        self._episode = restored(state["episode"], self._episode)
        self._returns = restored(state["returns"], self._returns)
        for ago in range(int(lengths.max()), 0, -1):
            if (begins := lengths == ago).any():
                self._reset(begins)
            action = np.stack([log[-ago] if ago <= len(log) else self._idle for log in logs])
            self._send(to_space(action, self.action_space))
            raw, _, _, _, info = self._recv()
            self.obs = self._see(raw, info)
        if (fresh := lengths == 0).any():
            self.obs = self._reset(fresh)

    def _guarded(self, ask: Callable[[], Answer]) -> Answer:
        """Return what the environments answer; whatever they raise is a FaultyEnvironmentError."""
        self._asked = True
        try:
            answer = ask()
        except UserError:
            raise
        except Exception as error:
            steps = ", ".join(map(str, self.ages))
            raise FaultyEnvironmentError(
                f"the environments raised {error!r}, at steps {steps} of their episodes"
            ) from error
        self._asked = False
        return answer

    def _check_finite(self, obs: Array, reward: Array) -> None:
        """Raise FaultyEnvironmentError, saying where, for what no environment may give."""
        good = _finite(reward)
        if obs.dtype.kind == "f":
            good &= _finite(obs).reshape(len(obs), -1).all(axis=1)
        if good.all():
            return
        i = int(good.argmin())
        what = "an observation that is not finite"
        if not _finite(reward)[i]:
            what = f"the reward {reward[i]}"
        raise FaultyEnvironmentError(
            f"environment {i} gave {what} at step {len(self._actions[i])} of its episode "
            f"{int(self._episode[i])}: the fault is the environment's"
        )

    def _reset(self, mask: Mask) -> Array:
        def episode_seed(i: int) -> int:
            words = seeded(self._seed, self._stream, i, int(self._episode[i])).generate_state(1)
            return int(words[0] >> 1)  # ALE takes a signed 32-bit seed

        seeds = np.array([episode_seed(i) for i in range(self.num_envs)])
        raw, info = self._guarded(lambda: self._reset_env(seeds, mask))
        obs = self._see(raw, info)
        self._check_finite(obs, np.zeros(self.num_envs))
        self._check_mask(mask)
        return obs

    def _see(self, raw: Any, info: Mapping[str, Any]) -> Array:
        """Return ``obs[N,*O]`` of what the environments gave; note actions to be had and lives."""
        self._raw = raw
        if self._life_loss:
            self._lives = np.asarray(info["lives"]).copy()
        if "action_mask" in info:
            self._note_masks(info["action_mask"], info.get("_action_mask", [True] * self.num_envs))
        return self._view(raw)

    def _note_masks(self, masks: Sequence[Any], there: Sequence[bool]) -> None:
        """Note what environments ``there[N]`` say of actions to be had, perhaps as lists."""
        if self.action_mask is None:
            self.action_mask = np.ones((self.num_envs, self._choices()), np.bool_)
        for i in map(int, np.flatnonzero(there)):
            given = np.asarray(masks[i])
            if given.shape != self.action_mask[i].shape:
                raise FaultyEnvironmentError(
                    f"environment {i} gave the action_mask {masks[i]!r}, expected one of "
                    f"{self.action_mask.shape[1]} actions"
                )
            self.action_mask[i] = given.astype(np.bool_)

    def _choices(self) -> int:
        """Return how many actions a mask is of; raise FaultyEnvironmentError where none can be."""
        head = head_for(self.action_space)
        if not head.discrete:
            raise FaultyEnvironmentError(
                f"the environments gave an action_mask, but their actions are {self.action_space}"
            )
        return head.size

    def _check_mask(self, which: Mask) -> None:
        """Raise FaultyEnvironmentError where one of ``which[N]`` leaves no action to choose."""
        if self.action_mask is None:
            return
        if (none := which & ~self.action_mask.any(axis=1)).any():
            i = int(none.argmax())
            raise FaultyEnvironmentError(
                f"environment {i} gave an action_mask that rules out every action at step "
                f"{len(self._actions[i])} of its episode {int(self._episode[i])}"
            )


class Restricted(Environments):
    """Environments whose agent acts in a part of the states only.

    Elsewhere the last action is repeated and no reward counts, but in every ``every``-th step: a
    semi-Markov decision (Sutton, Precup & Singh 1999, section 3).
    """

    def __init__(
        self, envs: Environments, region: Callable[[Array], Mask], every: float = np.inf
    ) -> None:
        """Take over ``envs``, which are not to be used any more."""
        self.__dict__.update(vars(envs))
        self._region = region
        self._every = every
        # For how many steps the last action has been repeated.
        self._repeated: npt.NDArray[np.int64] = np.zeros(self.num_envs, np.int64)
        self._look(np.ones(self.num_envs, np.bool_))

    @property
    def inside(self) -> Mask:
        return np.equal(self._repeated, 0)

    def send(self, action: Array) -> Array:
        inside = self.inside.reshape(-1, *[1] * (action.ndim - 1))
        return super().send(np.where(inside, action, self.last_action()))

    def recv(self) -> Step:
        step = self._finish(self.inside)
        self._repeated[step.terminated | step.truncated] = 0
        self._look(np.ones(self.num_envs, np.bool_))
        return step

    def cut(self, mask: Mask) -> tuple[tuple[float, int], ...]:
        finished = super().cut(mask)
        self._repeated[mask] = 0
        self._look(mask)
        return finished

    def _look(self, which: Mask) -> None:
        again = self._repeated + which
        acts = self._region(self.obs) | (again >= self._every)
        self._repeated = np.where(which & acts, 0, again)

    def state(self) -> State:
        return {**super().state(), "repeated": self._repeated.copy()}

    def restore(self, state: State) -> None:
        super().restore(state)
        self._repeated = restored(state["repeated"], self._repeated)


def _finite(numbers: Array) -> Mask:
    """Return where numbers are, also as the float32 that networks and losses take them for."""
    if numbers.dtype.kind != "f":
        return np.ones(numbers.shape, np.bool_)
    return np.asarray(np.abs(numbers) <= np.finfo(np.float32).max)


def transitions(
    obs: Array,
    action: Array,
    step: Step,
    label: npt.NDArray[np.float32],
    inside: Mask,
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
        step.lost,
    )


_Outcome = tuple[Any, Array, Mask, Mask, Mapping[str, Any]]
_Start = tuple[Any, Mapping[str, Any]]


def _driver(
    env: VectorEnv,
) -> tuple[Callable[[Array], None], Callable[[], _Outcome], Callable[[Array, Mask], _Start]]:
    """Return send, recv and masked reset of either kind of vector environment."""
    atari: Any = env
    if hasattr(env, "send") and hasattr(env, "recv"):

        def reset(seeds: Array, mask: Mask) -> _Start:
            obs, info = atari.reset(seed=seeds[mask], options={"reset_mask": mask})
            return np.asarray(obs), info

        # ALE wants one whole reset before any partial one; unseeded, it is twenty times faster.
        atari.reset()
        return atari.send, atari.recv, reset

    sent: list[Array] = []

    def recv() -> _Outcome:
        obs, reward, terminated, truncated, info = env.step(sent.pop())
        return deepcopy(obs), reward.copy(), terminated.copy(), truncated.copy(), info

    def reset_some(seeds: Array, mask: Mask) -> _Start:
        obs, info = env.reset(seed=seeds.tolist(), options={"reset_mask": mask})
        return deepcopy(obs), info

    return sent.append, recv, reset_some

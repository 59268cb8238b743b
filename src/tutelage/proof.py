"""Whether an exported file is the policy that it was made of: same states, same seeds, one run."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from tutelage.domains import EnvironmentConfig, make
from tutelage.errors import UserError
from tutelage.evaluation import MAX_STEPS, Evaluation, Note
from tutelage.exporters.base import Portable, Run, expected_action
from tutelage.heads import Head, Point
from tutelage.importers.base import Reading
from tutelage.policies import Carry, Policy, allowed, begin_again
from tutelage.types import Array, Floats

AT_ONCE = 16
"""Environments in step."""
APART = 4
"""Steps between states that bytes are calibrated on: neighbours look alike."""
BLOCKS, BLOCK = 21, 0.01
"""So many blocks of so many seconds are timed of either policy, in turn."""


class Original:
    """The policy itself, with what is done to it, as it is to be exported."""

    def __init__(self, policy: Portable) -> None:
        self._policy = policy
        self.head = policy.head

    def initial(self, n: int) -> Carry:
        """Return the policy's own memory."""
        return self._policy.policy.initial(n)

    def step(self, obs: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        """Return ``numbers[N,L]`` and the memory after."""
        return self._policy.said(obs, carry)


class Exported:
    """An exported file as a policy: its own actions are played, or its numbers."""

    def __init__(self, policy: Portable, run: Run, *, by_numbers: bool) -> None:
        """``by_numbers`` where not all actions are to be had, which only its user can know."""
        self._policy = policy
        self._run = run
        self.head: Head = policy.head
        self._read: Reading | None = None
        if not by_numbers:
            if isinstance(policy.space, spaces.Box):
                bounded = getattr(policy.head, "bounded", True)
                self.head = Point(int(np.prod(policy.space.shape)), bounded=bounded)
            self._read = Reading(self.head, policy.space)

    def initial(self, n: int) -> Carry:
        """Return zeros."""
        return tuple(torch.zeros(n, *sides) for sides in self._policy.memory)

    def step(self, obs: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        """Return what the file says, and the memory after."""
        seen = self._policy.natural(obs.numpy())
        action, numbers, *after = self._run(seen, *(part.numpy() for part in carry))
        if self._read is None:
            return torch.from_numpy(numbers), tuple(map(torch.from_numpy, after))
        given = action.reshape(len(seen), *self._policy.action_shape)
        return self._read(given, len(seen)), tuple(map(torch.from_numpy, after))


@dataclass(frozen=True)
class Seen:
    """What a policy came to in one step of all environments."""

    obs: Array
    """``[N,stack,*frame]``."""
    carry: Carry
    """What it remembered before."""
    numbers: Tensor
    """``[N,L]``, what it said."""
    ended: Array
    """``[N]``, whose episode ended with the step before: their memory begins anew."""


def visits(policy: Policy, config: EnvironmentConfig, *, seed: int, stream: str) -> Iterator[Seen]:
    """Yield the states that a policy comes to, without end; its episodes are played greedily."""
    played = replace(config, num_envs=AT_ONCE)
    envs = make(played, seed=seed, stream=stream)
    try:
        carry = policy.initial(AT_ONCE)
        ended = np.zeros(AT_ONCE, np.bool_)
        while True:
            obs = envs.obs.copy()
            with torch.inference_mode():
                numbers, after = policy.step(torch.from_numpy(obs), carry)
            yield Seen(obs, carry, numbers, ended)
            action = policy.head.mode(allowed(numbers, envs.action_mask)).numpy()
            step = envs.step(action)
            ended = step.terminated | step.truncated
            if (endless := (envs.ages >= MAX_STEPS)).any():
                envs.cut(endless)
            ended = ended | endless
            carry = begin_again(policy, after, ended)
    finally:
        envs.close()


def states_of(
    policy: Portable, config: EnvironmentConfig, n: int, seed: int
) -> list[tuple[Array, ...]]:
    """Return ``n`` inputs of the file, from episodes that no proof is made of."""
    found: list[tuple[Array, ...]] = []
    visited = visits(Original(policy), config, seed=seed, stream="calibration")
    for steps, seen in enumerate(visited):
        obs = policy.natural(seen.obs)
        if steps % APART == 0:
            for i in range(len(obs)):
                memory = (part[i : i + 1].numpy() for part in seen.carry)
                found.append((obs[i : i + 1], *memory))
        if len(found) >= n:
            return found[:n]
    raise AssertionError  # visits have no end


@dataclass(frozen=True)
class Agreement:
    """How a file's actions and numbers are those of the policy, over states that it visits."""

    states: int
    share: float
    """Of equal actions; of a Box 1 less the largest error in units of its range."""
    largest: float
    """The largest difference between two numbers of the head."""
    action_error: float | None
    """Of a Box: the largest error of an action, in units of its range."""
    sample: tuple[tuple[Array, ...], ...]
    """Some of the file's inputs, each of one state."""


def agreement(
    policy: Portable, run: Run, config: EnvironmentConfig, *, states: int, seed: int, note: Note
) -> Agreement:
    """Compare over at least so many states; raise UserError for a file that says NaN."""
    file = Exported(policy, run, by_numbers=True)
    memory = file.initial(AT_ONCE)
    sample: tuple[tuple[Array, ...], ...] = ()
    equal, done, largest, error = 0, 0, 0.0, 0.0
    for seen in visits(Original(policy), config, seed=seed, stream="export"):
        memory = begin_again(file, memory, seen.ended)
        given = (policy.natural(seen.obs), *(part.numpy() for part in memory))
        sample = tuple(tuple(part[i : i + 1] for part in given) for i in range(AT_ONCE))
        action, numbers, *after = run(*given)
        memory = tuple(map(torch.from_numpy, after))
        if np.isnan(numbers).any():
            raise UserError("what was exported says NaN: nothing is written")
        want = expected_action(policy, seen.numbers)
        theirs = seen.numbers.numpy()
        with np.errstate(invalid="ignore"):
            apart = np.where(numbers == theirs, 0.0, np.abs(numbers - theirs))
        largest = max(largest, float(apart.max()))
        if isinstance(policy.space, spaces.Box):
            action = action.reshape(want.shape).astype(np.float64)
            off = np.abs(action - want) / _range(policy.space)
            error = max(error, float(off.max()))
        else:
            equal += int(
                (action.reshape(want.shape) == want).reshape(len(want), -1).all(axis=1).sum()
            )
        done += len(want)
        note(f"comparing: {done:,} of {states:,} states")
        if done >= states:
            break
    if isinstance(policy.space, spaces.Box):
        return Agreement(done, 1.0 - error, largest, error, sample)
    return Agreement(done, equal / done, largest, None, sample)


def _range(space: spaces.Box) -> Floats:
    """Return how wide each number of an action is; 1 where it is fixed or lacks a bound."""
    bounded = np.isfinite(space.low) & np.isfinite(space.high) & (space.low < space.high)
    low, high = (
        np.where(bounded, side, 0.0).astype(np.float64) for side in (space.low, space.high)
    )
    return np.where(bounded, np.maximum(high - low, 1e-30), 1.0).ravel()


@dataclass(frozen=True)
class Returns:
    """What policy and file returned from the same starts."""

    original: Evaluation
    exported: Evaluation

    @property
    def difference(self) -> tuple[float, float, float]:
        """The file's return less the policy's: the mean, and its 95 % interval, by pairs."""
        pairs = self.exported.returns - self.original.returns
        each = Evaluation(pairs, self.exported.lengths)
        return (each.mean, *each.interval())


def returns(
    policy: Portable,
    run: Run,
    config: EnvironmentConfig,
    *,
    episodes: int,
    max_steps: int,
    seed: int,
    note: Note,
) -> Returns:
    """Play whole episodes, cut after ``max_steps``, with both, from the same starts."""
    masked = _masked(config, seed)
    both: list[Policy] = [Original(policy), Exported(policy, run, by_numbers=masked)]
    played = [
        play(
            one,
            config,
            episodes=episodes,
            max_steps=max_steps,
            seed=seed,
            note=lambda text, which=which: note(f"{which}: {text}"),  # type: ignore[misc]
        )
        for which, one in zip(("policy", "file"), both, strict=True)
    ]
    return Returns(*played)


def _masked(config: EnvironmentConfig, seed: int) -> bool:
    """Return whether the environment says which actions are to be had."""
    envs = make(replace(config, num_envs=1), seed=seed)
    envs.close()
    return envs.action_mask is not None


def play(
    policy: Policy,
    config: EnvironmentConfig,
    *,
    episodes: int,
    max_steps: int,
    seed: int,
    note: Note,
) -> Evaluation:
    """Play whole episodes greedily; what they returned is in the order of their starts."""
    found = [
        _games(
            policy,
            config,
            min(AT_ONCE, episodes - start),
            max_steps=max_steps,
            seed=seed,
            stream=f"export-{start}",
            note=note,
        )
        for start in range(0, episodes, AT_ONCE)
    ]
    returned, lengths, cut = zip(*found, strict=True)
    return Evaluation(np.concatenate(returned), np.concatenate(lengths), sum(cut))


def _games(
    policy: Policy,
    config: EnvironmentConfig,
    n: int,
    *,
    max_steps: int,
    seed: int,
    stream: str,
    note: Note,
) -> tuple[Floats, Any, int]:
    """Play one episode in each of ``n`` environments."""
    unclipped = replace(config.atari, clip_rewards=False)
    envs = make(
        replace(config, num_envs=n, atari=unclipped),
        seed=seed,
        stream=stream,
        episodes=np.ones(n, np.int64),
    )
    returned, lengths = np.zeros(n), np.zeros(n, np.int64)
    over, cut = np.zeros(n, np.bool_), 0
    try:
        carry = policy.initial(n)
        while not over.all():
            with torch.inference_mode():
                out, carry = policy.step(torch.from_numpy(envs.obs), carry)
                action = policy.head.mode(allowed(out, envs.action_mask)).numpy()
            step = envs.step(action)
            ended = step.terminated | step.truncated
            endless = (envs.ages >= max_steps) & ~ended
            finished = [*zip(np.flatnonzero(ended), step.finished, strict=True)]
            if endless.any():
                cut += int((endless & ~over).sum())
                finished += zip(np.flatnonzero(endless), envs.cut(endless), strict=True)
            for i, (episode_return, length) in finished:
                if not over[i]:
                    returned[i], lengths[i], over[i] = episode_return, length, True
                    note(f"{over.sum()} of {n} episodes")
            carry = begin_again(policy, carry, ended | endless)
    finally:
        envs.close()
    return returned, lengths, cut


@dataclass(frozen=True)
class Speed:
    """Microseconds per action, one state at a time: medians of blocks measured in turn."""

    original: float
    exported: float


def speed(
    policy: Portable,
    run: Run,
    states: Sequence[tuple[Array, ...]],
    clock: Callable[[], float] = time.perf_counter,
) -> Speed:
    """Time both on the same states, on as many threads as PyTorch has now; the file on one."""
    original = Original(policy)
    shown = [
        (
            torch.from_numpy(obs[:, None] if policy.single else obs),
            tuple(map(torch.from_numpy, memory)),
        )
        for obs, *memory in states
    ]

    def ours() -> None:
        for obs, carry in shown:
            numbers, _ = original.step(obs, carry)
            policy.head.mode(numbers)

    ready = getattr(run, "ready", lambda *given: partial(run, *given))
    acts = [ready(*given) for given in states]

    def theirs() -> None:
        for act in acts:
            act()

    with torch.inference_mode():
        repeats = [max(1, round(BLOCK / _seconds(pass_, 2, clock))) for pass_ in (ours, theirs)]
        times = [
            [_seconds(pass_, n, clock) for pass_, n in zip((ours, theirs), repeats, strict=True)]
            for _ in range(BLOCKS)
        ]
    medians = np.median(np.array(times), axis=0) / len(states) * 1e6
    return Speed(float(medians[0]), float(medians[1]))


def _seconds(run: Callable[[], None], times: int, clock: Callable[[], float]) -> float:
    """Return how long one of so many calls takes."""
    start = clock()
    for _ in range(times):
        run()
    return (clock() - start) / times

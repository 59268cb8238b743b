"""Experience from acting in vector environments."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tutelage.assignment.protocol import Assignment
from tutelage.environments import Environments, Step, transitions
from tutelage.errors import diverged
from tutelage.exploration import Select
from tutelage.heads import Head
from tutelage.policies import allowed
from tutelage.schedules import constant
from tutelage.teachers import TeacherError
from tutelage.types import (
    Array,
    Batch,
    Counted,
    Schedule,
    State,
    StepOut,
    Transitions,
    generator_state,
)

EPISODES = 20
"""The last so many are what the returns in training are the mean of."""


class Memory(Protocol):
    """Where experience goes: a replay, or a data set on disk."""

    def add(self, step: Transitions) -> None: ...
    def state(self) -> State: ...
    def restore(self, state: State) -> None: ...


class Teachers(Protocol):
    """Who labels states."""

    @property
    def head(self) -> Head:
        """What a label means."""

    def __call__(self, obs: Tensor, arm: npt.NDArray[np.int64], env_steps: int) -> Tensor:
        """Return what each row's own teacher says, ``label[N,L]``; raise TeacherError."""

    def ended(self, which: npt.NDArray[np.bool_]) -> None:
        """Forget what is remembered of environments whose episodes ended."""

    def state(self) -> State: ...
    def restore(self, state: State) -> None: ...


@dataclass(frozen=True)
class Behaviour:
    """Who acts, and how it explores."""

    network: StepOut
    head: Head
    select: Select
    rng: np.random.Generator
    teacher_acts: Schedule = field(default_factory=lambda: constant(0.0))
    """The probability that an environment follows its teacher instead (DAgger's beta)."""
    shown: Mapping[str, Schedule] = field(default_factory=dict)
    """What changes over env steps and is a metric."""
    ended: Callable[[npt.NDArray[np.bool_]], None] = lambda which: None
    """Told where episodes ended, ``[N]``: for who acts with a memory."""


Due = Callable[[int], Iterator[Batch]]
"""Says which batches are due at an env step; asked at each step of all environments."""


def steadily(sample: Callable[[], Batch], *, per_step: float, begin: int, num_envs: int) -> Due:
    """Return what draws ``per_step`` batches for each env step, from env step ``begin`` on."""
    first = max(-(-begin // num_envs), 1)

    def due(env_steps: int) -> Iterator[Batch]:
        past = env_steps // num_envs - first
        if past >= 0:
            given, owed = (int(n * num_envs * per_step) for n in (past, past + 1))
            for _ in range(owed - given):
                yield sample()

    return due


class Online:
    """Act in vector environments; every state is labelled once, when it is first seen.

    The student acts; with probability ``teacher_acts`` an environment follows its teacher instead
    (DAgger's beta, Ross et al. 2011, algorithm 3.1), as the assignment has it. While the emulators
    work, the labels are made and the learner takes its steps.
    """

    def __init__(
        self,
        envs: Environments,
        *,
        behaviour: Behaviour,
        teachers: Teachers | None,
        memories: Mapping[str, Memory],
        due: Due | None,
        round_steps: int,
        device: torch.device,
    ) -> None:
        """Take about ``round_steps`` env steps a round; where nothing is ``due`` none is learnt.

        Without ``teachers`` a state's label is what the acting network itself says: what a data set
        of a teacher's training, or of a teacher at play, holds.
        """
        self.env_steps = 0
        self.num_envs = envs.num_envs
        self.steps_per_round = max(1, round_steps // envs.num_envs)
        self._envs = envs
        self._behaviour = behaviour
        self._teachers = teachers
        self._memories = dict(memories)
        self._due = due
        self._device = device
        self._spent = 0
        self._round_reward = 0.0
        self._led = 0
        self._finished: deque[tuple[float, int]] = deque(maxlen=EPISODES)
        self._episodes = 0

    def spend(self, env_steps: int) -> None:
        """Count env steps that were taken elsewhere before the first; no schedule counts them."""
        self.env_steps += env_steps
        self._spent += env_steps

    @property
    def _trained(self) -> int:
        return self.env_steps - self._spent

    def begin(self) -> None:
        """Start a round."""
        self._round_reward = 0.0
        self._led = 0

    def act(self, assignment: Assignment) -> None:
        """Choose actions, set the emulators to work, and label the states as assigned."""
        how, obs, mask = self._behaviour, self._envs.obs, self._envs.action_mask
        on_device = self._to_device(obs)
        with torch.inference_mode():
            out = allowed(how.network(on_device, self._trained).cpu(), mask)
        action = how.select(how.head, out, self._trained, how.rng)
        if mask is not None:  # exploring knows no mask
            to_be_had = mask[np.arange(len(action)), action]
            action = np.where(to_be_had, action, how.head.mode(out).numpy())
        beta = how.teacher_acts(self._trained)
        draw = how.rng.random(len(action)) if beta > 0.0 else np.zeros(len(action))
        led = assignment.leads(beta, draw)
        early = self._label(obs, on_device, assignment, out) if led.any() else None
        if early is not None:
            theirs = self._head.mode(torch.from_numpy(early[0])).numpy()
            action = np.where(led.reshape(-1, *[1] * (action.ndim - 1)), theirs, action)
            self._led += int(led.sum())
        self._before = obs, self._envs.inside
        self._action = self._envs.send(action)
        self._labelled = early or self._label(obs, on_device, assignment, out)

    @property
    def _head(self) -> Head:
        return self._behaviour.head if self._teachers is None else self._teachers.head

    def batches(self) -> Iterator[Batch]:
        """Yield the batches that are due now."""
        if self._due is not None:
            yield from self._due(self._trained)

    def receive(self) -> Step:
        """Return what the actions came to."""
        return self._envs.recv()

    def store(self, step: Step) -> None:
        """Remember the step, with its labels."""
        obs, inside = self._before
        labels, arm = self._labelled
        experience = transitions(obs, self._action, step, labels, inside, arm)
        for memory in self._memories.values():
            memory.add(experience)
        if step.finished:
            ended = step.terminated | step.truncated
            self._behaviour.ended(ended)
            if self._teachers is not None:
                self._teachers.ended(ended)
        self._round_reward += float(step.reward.sum())
        self._finished.extend(step.finished)
        self._episodes += len(step.finished)
        self.env_steps += self.num_envs

    def _label(
        self, obs: Array, on_device: Tensor, assignment: Assignment, own: Tensor
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Ask each environment's teacher alone; return ``label[N,L]`` and who that was."""
        if self._teachers is None:
            if bool((own.isnan() | (own == torch.inf)).any()):
                raise diverged(self.env_steps)
            return self._head.values(own).numpy(), np.zeros(len(own), np.int64)
        if (theirs := self._envs.teacher_obs) is not obs:
            on_device = self._to_device(theirs)
        while True:
            arm = assignment.arms(obs)
            try:
                with torch.inference_mode():
                    label = self._teachers(on_device, arm, self.env_steps)
                return allowed(label, self._envs.action_mask).cpu().numpy(), arm
            except TeacherError as failure:
                assignment.drop(failure.arm, failure.reason)

    def _to_device(self, obs: Array) -> Tensor:
        tensor = torch.from_numpy(obs)
        if self._device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self._device, non_blocking=True)

    def metrics(self) -> dict[str, float]:
        """Return this round's reward, and the last ``EPISODES`` as SB3 names them."""
        steps = self.steps_per_round * self.num_envs
        metrics = {
            "rollout/episodes": float(self._episodes),
            "rollout/reward_per_step": self._round_reward / steps,
        }
        if self._finished:
            returns, lengths = zip(*self._finished, strict=True)
            metrics["rollout/ep_rew_mean"] = float(np.mean(returns))
            metrics["rollout/ep_len_mean"] = float(np.mean(lengths))
        for name, schedule in self._behaviour.shown.items():
            metrics[f"rollout/{name}"] = schedule(self._trained)
        if self._teachers is not None:
            metrics["rollout/teacher_acts"] = self._led / steps
        return metrics

    def state(self) -> State:
        return {
            "env_steps": self.env_steps,
            "spent": self._spent,
            "episodes": self._episodes,
            "finished": [list(f) for f in self._finished],
            "rng": generator_state(self._behaviour.rng),
            "envs": self._envs.state(),
            "teachers": {} if self._teachers is None else self._teachers.state(),
            "memories": {name: memory.state() for name, memory in self._memories.items()},
        }

    def restore(self, state: State) -> None:
        saved = msgspec.convert(state, Played)
        self.env_steps, self._spent = saved.env_steps, saved.spent
        self._episodes = saved.episodes
        self._finished.clear()
        self._finished.extend(saved.finished)
        self._behaviour.rng.bit_generator.state = saved.rng
        self._envs.restore(saved.envs)
        if self._teachers is not None:
            self._teachers.restore(saved.teachers)
        for name, memory in self._memories.items():
            memory.restore(saved.memories[name])


class Played(msgspec.Struct):
    """What a checkpoint holds of what was played."""

    env_steps: Counted
    spent: Counted
    episodes: Counted
    finished: list[tuple[float, Counted]]
    rng: State
    envs: State
    teachers: State
    memories: dict[str, State]

"""Where experience comes from: acting in an environment, or a recorded data set."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from tutelage.assignment.round import Assignment
from tutelage.environments import Environments, transitions
from tutelage.errors import diverged
from tutelage.exploration import Select
from tutelage.teachers import TeacherError
from tutelage.types import (
    Array,
    Batch,
    Label,
    Schedule,
    State,
    StepQ,
    Transitions,
    generator_state,
)

EPISODES = 20
"""The last so many are what the returns in training are the mean of."""


class Source(Protocol):
    """Yields the batches that a round of learning is due."""

    env_steps: int
    num_envs: int

    def collect(self, assignment: Assignment) -> Iterator[Batch]:
        """Gather one round of experience, labelled as assigned, yielding batches on the way."""

    def metrics(self) -> dict[str, float]:
        """Return what the source knows of how it goes."""

    def state(self) -> State: ...
    def restore(self, state: State) -> None: ...


class Memory(Protocol):
    """Where experience goes: a replay, or a data set on disk."""

    def add(self, step: Transitions) -> None: ...
    def state(self) -> State: ...
    def restore(self, state: State) -> None: ...


class Online:
    """Act in vector environments; every state is labelled once, when it is first seen.

    The student acts by ``select``; with probability ``teacher_acts`` an environment follows its
    teacher instead (DAgger's beta, Ross et al. 2011, algorithm 3.1), as the assignment has it.
    While the emulators work, the labels are made and the learner takes its steps.
    """

    def __init__(
        self,
        envs: Environments,
        *,
        student: StepQ,
        label: Label | None,
        select: Select,
        memories: Mapping[str, Memory],
        sample: Callable[[], Batch],
        batches_per_step: float,
        learning_starts: int,
        round_steps: int,
        rng: np.random.Generator,
        device: torch.device,
        teacher_acts: Schedule = lambda env_steps: 0.0,
    ) -> None:
        """Yield ``batches_per_step`` batches per env step, from ``learning_starts`` on.

        Without ``label`` a state's label is the acting network's own Q-value: what a data set of a
        teacher's training holds.
        """
        self.env_steps = 0
        self.num_envs = envs.num_envs
        self._envs = envs
        self._student = student
        self._teachers = label
        self._spent = 0
        self._select = select
        self._memories = dict(memories)
        self._sample = sample
        self._batches_per_step = batches_per_step
        self._learning_starts = learning_starts
        self._rounds = max(1, round_steps // envs.num_envs)
        self._rng = rng
        self._device = device
        self._teacher_acts = teacher_acts
        self._owed = 0.0
        self._round_reward = 0.0
        self._finished: deque[tuple[float, int]] = deque(maxlen=EPISODES)
        self._episodes = 0

    def spend(self, env_steps: int) -> None:
        """Count env steps that were taken elsewhere before the first; no schedule counts them."""
        self.env_steps += env_steps
        self._spent += env_steps

    def collect(self, assignment: Assignment) -> Iterator[Batch]:
        """Take one round of env steps; learning happens while the emulators work."""
        self._round_reward = 0.0
        for _ in range(self._rounds):
            obs, inside = self._envs.obs, self._envs.inside
            on_device = self._to_device(obs)
            trained = self.env_steps - self._spent
            with torch.inference_mode():
                student_q = self._student(on_device, trained)
            q = student_q.cpu().numpy()
            action = self._select(q, trained, self._rng)
            beta = self._teacher_acts(trained)
            draw = self._rng.random(len(action)) if beta > 0.0 else np.zeros(len(action))
            led = assignment.leads(beta, draw)
            early = self._label(obs, on_device, assignment, q) if led.any() else None
            if early is not None:
                action = np.where(led, early[0].argmax(axis=1), action)
            action = self._envs.send(action)
            labels, arm = early or self._label(obs, on_device, assignment, q)
            yield from self._due()
            step = self._envs.recv()
            assignment.paid(step)
            experience = transitions(obs, action, step, labels, inside, arm)
            for memory in self._memories.values():
                memory.add(experience)
            self._round_reward += float(step.reward.sum())
            self._finished.extend(step.finished)
            self._episodes += len(step.finished)
            self.env_steps += self._envs.num_envs

    def _due(self) -> Iterator[Batch]:
        if self.env_steps - self._spent < max(self._learning_starts, 1):
            return
        self._owed += self._envs.num_envs * self._batches_per_step
        while self._owed >= 1.0:
            self._owed -= 1.0
            yield self._sample()

    def _label(
        self,
        obs: Array,
        on_device: torch.Tensor,
        assignment: Assignment,
        own_q: npt.NDArray[np.float32],
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Ask each environment's teacher alone; return its Q-values ``[N,A]`` and who that was."""
        if self._teachers is None:
            if not np.isfinite(own_q).all():
                raise diverged(self.env_steps)
            return own_q, np.zeros(len(own_q), np.int64)
        while True:
            arm = assignment.arms(obs)
            try:
                with torch.inference_mode():
                    q = self._teachers(on_device, arm, self.env_steps)
                return q.cpu().numpy(), arm
            except TeacherError as failure:
                assignment.drop(failure.arm, failure.reason)

    def _to_device(self, obs: Array) -> torch.Tensor:
        tensor = torch.from_numpy(obs)
        if self._device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self._device, non_blocking=True)

    def metrics(self) -> dict[str, float]:
        """Return this round's reward, and the last ``EPISODES`` as SB3 names them."""
        metrics = {
            "rollout/episodes": float(self._episodes),
            "rollout/reward_per_step": self._round_reward / (self._rounds * self.num_envs),
        }
        if self._finished:
            returns, lengths = zip(*self._finished, strict=True)
            metrics["rollout/ep_rew_mean"] = float(np.mean(returns))
            metrics["rollout/ep_len_mean"] = float(np.mean(lengths))
        return metrics

    def state(self) -> State:
        return {
            "env_steps": self.env_steps,
            "spent": self._spent,
            "owed": self._owed,
            "episodes": self._episodes,
            "finished": [list(f) for f in self._finished],
            "rng": generator_state(self._rng),
            "envs": self._envs.state(),
            "memories": {name: memory.state() for name, memory in self._memories.items()},
        }

    def restore(self, state: State) -> None:
        self.env_steps = int(state["env_steps"])
        self._spent = int(state["spent"])
        self._owed = float(state["owed"])
        self._episodes = int(state["episodes"])
        self._finished.clear()
        self._finished.extend((float(r), int(n)) for r, n in state["finished"])
        self._rng.bit_generator.state = state["rng"]
        self._envs.restore(state["envs"])
        for name, memory in self._memories.items():
            memory.restore(state["memories"][name])

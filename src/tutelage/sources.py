"""Where experience comes from: acting in an environment, or a recorded data set."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from tutelage.environments import Environments
from tutelage.exploration import Explore
from tutelage.replay import Replay, Transitions
from tutelage.types import Array, Batch, QFunction, Schedule, State, generator_state


class Source(Protocol):
    """Yields the batches that a round of learning is due."""

    env_steps: int
    num_envs: int

    def collect(self, arm: npt.NDArray[np.int64]) -> Iterator[Batch]:
        """Gather one round of experience labelled by ``arm[N]``, yielding batches on the way."""

    def metrics(self) -> dict[str, float]:
        """Return what the source knows of how it goes."""

    def state(self) -> State: ...
    def restore(self, state: State) -> None: ...


class Online:
    """Act in vector environments; every state is labelled once, when it is first seen.

    The student acts by ``explore``; with probability ``teacher_acts`` an environment follows its
    teacher instead (DAgger's beta, Ross et al. 2011, algorithm 3.1). While the emulators work,
    the labels are made and the learner takes its steps.
    """

    def __init__(
        self,
        envs: Environments,
        *,
        student: QFunction,
        teachers: Sequence[QFunction],
        explore: Explore,
        replay: Replay,
        sample: Callable[[], Batch],
        samples_per_step: float,
        batch_size: int,
        learning_starts: int,
        round_steps: int,
        rng: np.random.Generator,
        device: torch.device,
        teacher_acts: Schedule = lambda env_steps: 0.0,
        record: Callable[[Transitions], None] = lambda transitions: None,
    ) -> None:
        """Yield ``samples_per_step / batch_size`` batches per env step after ``learning_starts``.

        With no teachers the label of a state is the acting network's own Q-value: what a data set
        of a teacher's training holds.
        """
        self.env_steps = 0
        self.num_envs = envs.num_envs
        self._envs = envs
        self._student = student
        self._teachers = teachers
        self._explore = explore
        self._replay = replay
        self._sample = sample
        self._batches_per_step = samples_per_step / batch_size
        self._learning_starts = learning_starts
        self._rounds = max(1, round_steps // envs.num_envs)
        self._rng = rng
        self._device = device
        self._teacher_acts = teacher_acts
        self._record = record
        self._owed = 0.0
        self._finished: deque[tuple[float, int]] = deque(maxlen=20)
        self._episodes = 0

    def collect(self, arm: npt.NDArray[np.int64]) -> Iterator[Batch]:
        """Take one round of env steps; learning happens while the emulators work."""
        for _ in range(self._rounds):
            obs = self._envs.obs
            on_device = self._to_device(obs)
            with torch.inference_mode():
                student_q = self._student(on_device)
            beta = self._teacher_acts(self.env_steps)
            q = student_q.cpu().numpy()
            labels = self._label(on_device, arm) if beta > 0.0 else None
            action = self._explore(q, self.env_steps, self._rng)
            if labels is not None:
                follows = self._rng.random(len(action)) < beta
                action = np.where(follows, labels.argmax(axis=1), action)
            self._envs.send(action)
            if labels is None:
                labels = self._label(on_device, arm) if self._teachers else q
            yield from self._due()
            step = self._envs.recv()
            transitions = Transitions(
                obs,
                action,
                step.reward,
                step.terminated,
                step.truncated,
                step.next_obs,
                labels,
            )
            self._replay.add(transitions)
            self._record(transitions)
            self._finished.extend(step.finished)
            self._episodes += len(step.finished)
            self.env_steps += self._envs.num_envs

    def _due(self) -> Iterator[Batch]:
        if self.env_steps < self._learning_starts or len(self._replay) == 0:
            return
        self._owed += self._envs.num_envs * self._batches_per_step
        while self._owed >= 1.0:
            self._owed -= 1.0
            yield self._sample()

    def _label(self, obs: torch.Tensor, arm: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Ask each environment's teacher, and no other, for its Q-values ``[N,A]``."""
        labels = np.empty((len(obs), self._envs.num_actions), np.float32)
        with torch.inference_mode():
            for k in np.unique(arm):
                chosen = np.flatnonzero(arm == k)
                labels[chosen] = self._teachers[k](obs[torch.from_numpy(chosen)]).cpu().numpy()
        return labels

    def _to_device(self, obs: Array) -> torch.Tensor:
        tensor = torch.from_numpy(obs)
        if self._device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self._device, non_blocking=True)

    def metrics(self) -> dict[str, float]:
        """Return the last 20 episodes' mean return and length, as SB3 names them."""
        if not self._finished:
            return {"rollout/episodes": 0.0}
        returns, lengths = zip(*self._finished, strict=True)
        return {
            "rollout/ep_rew_mean": float(np.mean(returns)),
            "rollout/ep_len_mean": float(np.mean(lengths)),
            "rollout/episodes": float(self._episodes),
        }

    def state(self) -> State:
        return {
            "env_steps": self.env_steps,
            "owed": self._owed,
            "episodes": self._episodes,
            "finished": [list(f) for f in self._finished],
            "rng": generator_state(self._rng),
            "envs": self._envs.state(),
            "replay": self._replay.state(),
        }

    def restore(self, state: State) -> None:
        self.env_steps = int(state["env_steps"])
        self._owed = float(state["owed"])
        self._episodes = int(state["episodes"])
        self._finished.clear()
        self._finished.extend((float(r), int(n)) for r, n in state["finished"])
        self._rng.bit_generator.state = state["rng"]
        self._envs.restore(state["envs"])
        self._replay.restore(state["replay"])

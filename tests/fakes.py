"""Stand-ins for the parts of a run, and small networks and batches to learn with."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tutelage.assignment.protocol import Assignment
from tutelage.environments import Step
from tutelage.errors import UserError
from tutelage.learner import Learner
from tutelage.networks import QNetwork, parse_size
from tutelage.types import Array, Batch, Feedback, State

ROUND_STEPS = 10


def tiny_network(size: str = "mlp:16", *, seed: int = 0) -> QNetwork:
    """Return a network of two actions for observations [1, 3]."""
    generator = torch.Generator().manual_seed(seed)
    return QNetwork(parse_size(size), (1, 3), 2, generator=generator)


def make_batch(*, seed: int = 0, size: int = 16) -> Batch:
    """Return random transitions that fit ``tiny_network``."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return Batch(
        obs=normal(size, 1, 3),
        label=normal(size, 2),
        action=torch.randint(2, (size,), generator=generator),
        n_step_reward=normal(size),
        bootstrap=torch.rand(size, generator=generator),
        next_obs=normal(size, 1, 3),
    )


class FakeSource:
    """Two environments; a round is ROUND_STEPS env steps and ``batches`` batches.

    Like the others here it notes on a tape what is asked of it.
    """

    num_envs = 2

    def __init__(
        self,
        tape: list[str],
        *,
        batches: int = 2,
        in_round: Callable[[int], None] = lambda env_steps: None,
    ) -> None:
        self.env_steps = 0
        self._tape = tape
        self._batches = batches
        self._in_round = in_round

    def collect(self, assignment: Assignment) -> Iterator[Batch]:
        self._tape.append("collect")
        assignment.arms(np.zeros((self.num_envs, 1)))
        self._in_round(self.env_steps)
        for i in range(self._batches):
            self._tape.append(f"batch {i}")
            yield Batch(obs=torch.zeros(1, 1, 1), label=torch.zeros(1, 2))
        self.env_steps += ROUND_STEPS
        self._tape.append("collected")

    def metrics(self) -> dict[str, float]:
        self._tape.append("metrics")
        return {"rollout/env_steps": float(self.env_steps)}

    def state(self) -> State:
        return {"env_steps": self.env_steps}

    def restore(self, state: State) -> None:
        self.env_steps = state["env_steps"]


class FakeLearner(Learner):
    """Counts updates and reports the ``losses`` in turn."""

    def __init__(self, tape: list[str], *, losses: Sequence[float] = (0.5,)) -> None:
        self.updates = 0
        self._tape = tape
        self._losses = losses

    def update(self, batch: Batch) -> dict[str, Tensor]:
        self._tape.append(f"update {self.updates}")
        loss = self._losses[self.updates % len(self._losses)]
        self.updates += 1
        return {"train/loss": torch.tensor(loss), "train/double": torch.tensor(2.0 * loss)}

    def is_finite(self) -> bool:
        return math.isfinite(self._losses[(self.updates - 1) % len(self._losses)])

    def state(self) -> State:
        return {"updates": self.updates}

    def restore(self, state: State) -> None:
        self.updates = state["updates"]


class Fixed:
    """Assigns the teachers ``arm[N]`` for ever; notes on the tape what is asked of it."""

    def __init__(self, arm: Sequence[int], tape: list[str] | None = None) -> None:
        self.arm = np.array(arm, np.int64)
        self._tape = [] if tape is None else tape

    def begin(self) -> None:
        self._tape.append("begin")

    def arms(self, obs: Array) -> npt.NDArray[np.int64]:
        self._tape.append("arms")
        return self.arm

    def leads(self, beta: float, draw: Array) -> npt.NDArray[np.bool_]:
        return np.asarray(draw < beta)

    def paid(self, step: Step) -> None:
        self._tape.append("paid")

    def settle(self) -> Mapping[int, Feedback]:
        self._tape.append("settle")
        one = np.ones(1)
        return {7: Feedback(np.zeros((1, 0)), np.zeros(1, np.int64), one, one)}

    def drop(self, arm: int, reason: str) -> None:
        raise UserError(f"teacher {arm}: {reason}")

    def trust(self, obs: Array, arm: npt.NDArray[np.int64]) -> None:
        return None

    def metrics(self) -> dict[str, float]:
        return {}

    def state(self) -> State:
        return {}

    def restore(self, state: State) -> None:
        pass

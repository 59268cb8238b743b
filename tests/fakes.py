"""Stand-ins for the parts of a run, and small networks and batches to learn with."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tutelage import Assignment, models
from tutelage.environments import Step
from tutelage.errors import UserError
from tutelage.heads import Head, QValues
from tutelage.learner import Learner
from tutelage.networks import Network, Size, parse_size
from tutelage.policies import Carry
from tutelage.types import Array, Batch, Feedback, State

ROUND_STEPS = 10


def tiny_network(size: str = "mlp:16", *, head: Head | None = None, seed: int = 0) -> Network:
    """Return a network for observations [1, 3], of the values of two actions unless ``head``."""
    generator = torch.Generator().manual_seed(seed)
    return Network(parse_size(size), (1, 3), head or QValues(2), generator=generator)


def controller(path: Path, *, env: str = "CartPole-v1", head: Head | None = None) -> Path:
    """Write a teacher by hand: push towards where the pole falls. It balances all 500 steps."""
    network = Network(Size((), (2,)), (1, 4), head or QValues(2))
    lean = torch.tensor([0.05, 0.2, 1.0, 0.6])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.body[1].weight.copy_(torch.stack([-lean, lean]))  # type: ignore[operator]
        network.output.weight.copy_(torch.eye(2))
    models.save(path, network, env=env, card={})
    return path


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


@dataclass
class Counter:
    """A policy with a memory: it counts the states of each episode and says how many there were.

    It prefers action 1 by that number. ``failing_at`` is a count at which it raises.
    """

    head: Head = field(default_factory=lambda: QValues(2))
    failing_at: int = -1

    def initial(self, n: int) -> Carry:
        return (torch.zeros(n, 1, dtype=torch.int64),)

    def step(self, obs: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        (before,) = carry
        now = before + 1
        if (now == self.failing_at).any():
            raise RuntimeError("it lost count")
        said = torch.zeros(len(obs), self.head.size)
        said[:, 1:2] = now.float()
        return said, (now,)


class FakeSource:
    """Five environments; a round is two steps of theirs, with ``batches`` batches each.

    Like the others here it notes on a tape what is asked of it.
    """

    num_envs = 5
    steps_per_round = 2

    def __init__(
        self,
        tape: list[str],
        *,
        batches: tuple[int, int] = (1, 1),
        plays: bool = True,
        in_round: Callable[[int], None] = lambda env_steps: None,
    ) -> None:
        self.env_steps = 0
        self._tape = tape
        self._batches = batches
        self._plays = plays
        self._in_round = in_round

    def begin(self) -> None:
        self._tape.append("begin source")
        self._step = -1

    def act(self, assignment: Assignment) -> None:
        self._tape.append("act")
        assignment.arms(np.zeros((self.num_envs, 1)))
        self._step += 1
        if self._step == 0:
            self._in_round(self.env_steps)
        self.env_steps += self.num_envs

    def batches(self) -> Iterator[Batch]:
        for _ in range(self._batches[self._step]):
            self._tape.append("batch")
            yield Batch(obs=torch.zeros(1, 1, 1), label=torch.zeros(1, 2))

    def receive(self) -> Step | None:
        self._tape.append("receive")
        nothing, no = np.zeros((self.num_envs, 1)), np.zeros(self.num_envs, np.bool_)
        if not self._plays:
            return None
        return Step(nothing, np.zeros(self.num_envs, np.float32), no, no, ())

    def store(self, step: Step) -> None:
        self._tape.append("store")

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
        self._tape.append("learn")
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

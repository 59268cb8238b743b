"""The only training loop: a generator. Logging, evaluating, saving and stopping consume it."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from torch import Tensor

from tutelage.assignment.protocol import Assignment
from tutelage.environments import Step
from tutelage.types import Batch, Row, State


class Source(Protocol):
    """Where experience comes from."""

    num_envs: int

    @property
    def env_steps(self) -> int:
        """How many were taken."""

    @property
    def steps_per_round(self) -> int:
        """How often the loop acts in a round."""

    def begin(self) -> None:
        """Start a round."""

    def act(self, assignment: Assignment) -> None:
        """Choose actions, label the states as assigned, and set the emulators to work."""

    def batches(self) -> Iterator[Batch]:
        """Yield the batches that are due now."""

    def receive(self) -> Step | None:
        """Return what the actions came to; None where nothing is played."""

    def store(self, step: Step) -> None:
        """Remember the step, with its labels."""

    def metrics(self) -> dict[str, float]:
        """Return what the source knows of how the round went."""

    def state(self) -> State: ...
    def restore(self, state: State) -> None: ...


class Learns(Protocol):
    """What takes steps on batches."""

    updates: int

    def update(self, batch: Batch) -> Mapping[str, Tensor]:
        """Take one optimiser step; return what it measured."""


def run(source: Source, learner: Learns, assignment: Assignment) -> Iterator[Row]:
    """Yield a row per round, and never end by itself.

    A teacher is assigned, a source yields experience, a learner takes steps on it, the choice is
    paid, a row is written. Between two rows everything is at rest, so that a consumer may save,
    evaluate or stop there.
    """
    while True:
        assignment.begin()
        source.begin()
        measured = []
        for _ in range(source.steps_per_round):
            source.act(assignment)
            for batch in source.batches():  # learn while the emulators work
                measured.append(learner.update(batch))
            if (step := source.receive()) is not None:
                assignment.paid(step)
                source.store(step)
        settled = assignment.settle()
        yield Row(
            env_steps=source.env_steps,
            updates=learner.updates,
            metrics={**source.metrics(), **assignment.metrics(), **_means(measured)},
            settled=settled,
        )


def _means(measured: list[Mapping[str, Tensor]]) -> dict[str, float]:
    """Return the mean of what each name stands for, over the updates that measured it."""
    names = dict.fromkeys(name for one in measured for name in one)
    by_name = {name: [float(one[name]) for one in measured if name in one] for name in names}
    return {name: sum(values) / len(values) for name, values in by_name.items()}

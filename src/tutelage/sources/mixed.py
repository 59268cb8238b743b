"""Experience from several tasks, of which one is played in each round."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import msgspec
import torch

from tutelage.assignment.protocol import Assignment
from tutelage.environments import Step
from tutelage.sources.online import Online, steadily
from tutelage.types import Batch, Counted, State

Draw = Callable[[int], Batch]
"""Draws so many labelled states of a task."""


def together(draws: Sequence[Draw], size: int, number: int) -> Batch:
    """Return batch ``number`` with as many states of each task, to within one."""
    tasks = len(draws)
    ends = [(size * k + number % tasks) // tasks for k in range(tasks)]
    shares = [end - begin for begin, end in pairwise([*ends, size])]
    return joined({i: draws[i](share) for i, share in enumerate(shares) if share})


def in_turn(draws: Sequence[Draw], size: int, number: int) -> Batch:
    """Return batch ``number`` of one task's states, the next task's in the next batch."""
    task = number % len(draws)
    return joined({task: draws[task](size)})


BATCHES: Mapping[str, Callable[[Sequence[Draw], int, int], Batch]] = {
    "together": together,
    "in-turn": in_turn,
}
"""What a batch is of several tasks."""


def joined(by_task: Mapping[int, Batch]) -> Batch:
    """Return one batch of several tasks' states, labels filled up with 0 to the longest."""
    longest = max(batch.label.shape[1] for batch in by_task.values())

    def filled(label: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(label, (0, longest - label.shape[1]))

    sizes = torch.tensor([len(batch.label) for batch in by_task.values()])
    return Batch(
        obs=torch.cat([batch.obs for batch in by_task.values()]),
        label=torch.cat([filled(batch.label) for batch in by_task.values()]),
        task=torch.tensor(list(by_task)).repeat_interleave(sizes),
    )


class Mixed:
    """Act in one task's environments for a round, learn from what is remembered of all."""

    def __init__(
        self,
        sources: Mapping[str, Online],
        draws: Sequence[Draw],
        *,
        played: Callable[[], int],
        batches: Callable[[Sequence[Draw], int, int], Batch],
        batch_size: int,
        per_step: float,
        begin: int,
    ) -> None:
        """Play the task that ``played()`` says; ``draws`` are the tasks' memories.

        ``per_step`` batches are learnt for each env step from env step ``begin`` on, by when each
        task has been played.
        """
        first = next(iter(sources.values()))
        self.num_envs, self.steps_per_round = first.num_envs, first.steps_per_round
        self._sources = dict(sources)
        self._played = played
        self._now = first
        self._drawn = 0

        def next_batch() -> Batch:
            self._drawn += 1
            return batches(draws, batch_size, self._drawn - 1)

        self._due = steadily(next_batch, per_step=per_step, begin=begin, num_envs=self.num_envs)

    @property
    def env_steps(self) -> int:
        """Of all tasks."""
        return sum(source.env_steps for source in self._sources.values())

    def begin(self) -> None:
        """Start a round of the task that is to be played."""
        self._now = list(self._sources.values())[self._played()]
        self._now.begin()

    def act(self, assignment: Assignment) -> None:
        """Choose actions, label the states, and set the emulators to work."""
        self._now.act(assignment)

    def batches(self) -> Iterator[Batch]:
        """Yield the batches that are due now."""
        yield from self._due(self.env_steps)

    def receive(self) -> Step:
        """Return what the actions came to."""
        return self._now.receive()

    def store(self, step: Step) -> None:
        """Remember the step in its task's memory."""
        self._now.store(step)

    def metrics(self) -> dict[str, float]:
        """Return what each task has come to, and how the round of the one that was played went."""
        metrics: dict[str, float] = {}
        for name, source in self._sources.items():
            metrics[f"{name}/env_steps"] = float(source.env_steps)
            if source is self._now:
                metrics |= {f"{name}/{key}": value for key, value in source.metrics().items()}
        return metrics

    def state(self) -> State:
        return {
            "drawn": self._drawn,
            "sources": {name: source.state() for name, source in self._sources.items()},
        }

    def restore(self, state: State) -> None:
        saved = msgspec.convert(state, Drawn)
        self._drawn = saved.drawn
        for name, source in self._sources.items():
            source.restore(saved.sources[name])


class Drawn(msgspec.Struct):
    """What a checkpoint holds of several tasks."""

    drawn: Counted
    sources: dict[str, State]

"""An objective for each of several tasks that one network has."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.objectives.distill import Distillation
from tutelage.tasks import Task
from tutelage.types import Batch, State


@dataclass(frozen=True)
class PerTask:
    """Hold each state to the objective of its own task, and the task's own outputs.

    ``batch.task[B]`` says which that is; of ``batch.label`` the first L numbers are its label.
    """

    tasks: Sequence[Task]
    objectives: Sequence[Distillation]

    def __call__(self, out: Tensor, batch: Batch) -> Tensor:
        loss = out.new_zeros(len(out))
        for i, rows, own in self._apart(batch):
            loss = loss.index_put((rows,), self.objectives[i](self.tasks[i].out(out[rows]), own))
        return loss

    def measure(self, out: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        """Return what each task's objective measures, under the task's name."""
        measured: dict[str, Tensor] = {}
        for i, rows, own in self._apart(batch):
            task = self.tasks[i]
            for name, value in self.objectives[i].measure(task.out(out[rows]), own).items():
                measured[f"{task.name}/{name}"] = value
        return measured

    def _apart(self, batch: Batch) -> Iterator[tuple[int, Tensor, Batch]]:
        """Yield each task that a batch has states of, the rows of these, and their batch."""
        assert batch.task is not None
        for i in sorted(set(batch.task.tolist())):
            (rows,) = torch.where(batch.task == i)
            label = batch.label[rows, : self.tasks[i].head.size]
            yield i, rows, Batch(obs=batch.obs[rows], label=label)

    def after_update(self, updates: int) -> None:
        """Nothing is due: the teachers do not change."""

    def state(self) -> State:
        return {}

    def restore(self, state: State) -> None:
        pass

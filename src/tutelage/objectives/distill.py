"""Distillation: bring what a student says to what its teacher said."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from tutelage.heads import Head, QValues
from tutelage.losses import Loss
from tutelage.types import Batch, State, check_shape


@dataclass(frozen=True)
class Distillation:
    """Bring the student's numbers to a target made of the teacher's (the paper, section 3.2).

    The loss sees out / ``student_tau``: at 1, as in the paper, a student's Q-values are logits; at
    the target's tau they stay on the scale of returns, where double Q-learning has them too.
    """

    loss: Loss
    target: Callable[[Tensor], Tensor]
    """``label[B,L] -> target[B,L]``."""
    head: Head
    student_tau: float = 1.0

    def __call__(self, out: Tensor, batch: Batch) -> Tensor:
        check_shape("label", batch.label, (len(out), out.shape[1]))
        loss = self.loss(out / self.student_tau, self.target(batch.label), self.head)
        if batch.weight is None:
            return loss
        check_shape("weight", batch.weight, (len(out),))
        return loss * batch.weight / batch.weight.mean().clamp(min=1e-6)

    def measure(self, out: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        """Return how far the student is from its teacher, as the head has it."""
        compared = self.head.compare(out, batch.label)
        measured = {f"distill/{name}": value.mean() for name, value in compared.items()}
        if isinstance(self.head, QValues):
            measured["train/q"] = out.max(dim=1).values.mean()
        return measured

    def after_update(self, updates: int) -> None:
        """Nothing is due: the teacher does not change."""

    def state(self) -> State:
        return {}

    def restore(self, state: State) -> None:
        pass

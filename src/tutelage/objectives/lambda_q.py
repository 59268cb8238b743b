"""Q-learning towards lambda-returns: learn the value of each action from reward alone."""

from collections.abc import Mapping

from torch import Tensor

from tutelage.errors import look_up
from tutelage.objectives.double_q import TD_LOSSES
from tutelage.types import Batch, State


class LambdaQ:
    """PQN's loss (Gallici et al. 2024, algorithm 1): (q(s, a) - G)^2, G held fixed.

    G is a lambda-return, which a ``Rollout`` works out of what the acting network said; there is no
    target network. ``loss`` is one of ``TD_LOSSES``.
    """

    def __init__(self, *, loss: str = "mse") -> None:
        self._loss = look_up("td_loss", loss, TD_LOSSES)

    def __call__(self, out: Tensor, batch: Batch) -> Tensor:
        assert batch.action is not None
        assert batch.returns is not None
        taken = out.gather(1, batch.action[:, None]).squeeze(1)
        return self._loss(taken, batch.returns)

    def measure(self, out: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        """Return the mean value of the best action."""
        return {"train/q": out.max(1).values.mean()}

    def after_update(self, updates: int) -> None:
        pass

    def state(self) -> State:
        return {}

    def restore(self, state: State) -> None:
        pass

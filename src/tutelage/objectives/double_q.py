"""Double Q-learning: learn the value of each action from reward."""

import copy
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.errors import look_up
from tutelage.types import Batch, State, load_weights

TD_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "huber": partial(F.smooth_l1_loss, reduction="none"),
    "mse": partial(F.mse_loss, reduction="none"),
}
"""Name -> loss of q(s, a) [B] against y [B]."""


class DoubleQ:
    """Double Q-learning (van Hasselt et al. 2016, eq. 4) with n-step returns.

    y = R^(n) + gamma^n q_target(s', argmax_a q(s', a)); the target network is a copy of the
    online one, renewed every ``target_every`` updates. ``loss`` is one of ``TD_LOSSES``: Huber's
    is the field's, and its gradient ends at an error of 1. Where returns are much larger than 1, a
    rare and large error such as a game's end is then outvoted by many small ones, and q may grow
    without bound; mse has the mean return as its fixed point.
    """

    def __init__(self, network: nn.Module, *, target_every: int, loss: str = "huber") -> None:
        self._loss = look_up("td_loss", loss, TD_LOSSES)
        self._online = network
        self._target = copy.deepcopy(network).requires_grad_(False)
        self._target_every = target_every

    def __call__(self, out: Tensor, batch: Batch) -> Tensor:
        assert batch.action is not None
        assert batch.next_obs is not None
        assert batch.n_step_reward is not None
        assert batch.bootstrap is not None
        with torch.no_grad():
            best = self._online(batch.next_obs).argmax(dim=1, keepdim=True)
            value = self._target(batch.next_obs).gather(1, best).squeeze(1)
            target = batch.n_step_reward + batch.bootstrap * value
        taken = out.gather(1, batch.action[:, None]).squeeze(1)
        return self._loss(taken, target)

    def measure(self, out: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        """Return the mean value of the best action."""
        return {"train/q": out.max(1).values.mean()}

    def after_update(self, updates: int) -> None:
        if updates % self._target_every == 0:
            self._target.load_state_dict(self._online.state_dict())

    def state(self) -> State:
        return dict(self._target.state_dict())

    def restore(self, state: State) -> None:
        load_weights(self._target, state)

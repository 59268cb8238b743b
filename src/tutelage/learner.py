"""What a step of learning is: a weighted sum of objectives on one network.

Double Q-learning is one objective, distillation another; their sum with a scheduled weight is
kickstarting (Schmitt et al. 2018, eq. 3). There is one learner.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.errors import look_up
from tutelage.networks import QNetwork
from tutelage.types import Batch, Schedule, State, StepQ, check_shape

Loss = Callable[[Tensor, Tensor], Tensor]
"""``(student_q[B,A], target[B,A]) -> [B]``."""
Target = Callable[[Tensor], Tensor]
"""``label[B,A] -> target[B,A]``."""


class Objective(Protocol):
    """One term of what is minimised."""

    def __call__(self, q: Tensor, batch: Batch) -> Tensor:
        """Return the loss of each sample, ``[B]``, from the network's ``q[B,A]``."""

    def after_update(self, updates: int) -> None:
        """Do what is due after an update, such as copying a target network."""

    def state(self) -> State: ...
    def restore(self, state: State) -> None: ...


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

    def __init__(self, network: QNetwork, *, target_every: int, loss: str = "huber") -> None:
        self._loss = look_up("td_loss", loss, TD_LOSSES)
        self._online = network
        self._target = copy.deepcopy(network).requires_grad_(False)
        self._target_every = target_every

    def __call__(self, q: Tensor, batch: Batch) -> Tensor:
        assert batch.action is not None
        assert batch.next_obs is not None
        assert batch.n_step_reward is not None
        assert batch.bootstrap is not None
        with torch.no_grad():
            best = self._online(batch.next_obs).argmax(dim=1, keepdim=True)
            value = self._target(batch.next_obs).gather(1, best).squeeze(1)
            target = batch.n_step_reward + batch.bootstrap * value
        taken = q.gather(1, batch.action[:, None]).squeeze(1)
        return self._loss(taken, target)

    def after_update(self, updates: int) -> None:
        if updates % self._target_every == 0:
            self._target.load_state_dict(self._online.state_dict())

    def state(self) -> State:
        return dict(self._target.state_dict())

    def restore(self, state: State) -> None:
        self._target.load_state_dict(state)


@dataclass(frozen=True)
class Distillation:
    """Bring the student's Q-values to a target made of the teacher's (the paper, section 3.2).

    The loss sees q^S / ``student_tau``: at 1, as in the paper, the student's Q-values are logits;
    at the target's tau they stay on the scale of returns, where double Q-learning has them too.
    """

    loss: Loss
    target: Target
    student_tau: float = 1.0

    def __call__(self, q: Tensor, batch: Batch) -> Tensor:
        check_shape("label", batch.label, (len(q), q.shape[1]))
        loss = self.loss(q / self.student_tau, self.target(batch.label))
        if batch.weight is None:
            return loss
        check_shape("weight", batch.weight, (len(q),))
        return loss * batch.weight / batch.weight.mean().clamp(min=1e-6)

    def after_update(self, updates: int) -> None:
        """Nothing is due: the teacher does not change."""

    def state(self) -> State:
        return {}

    def restore(self, state: State) -> None:
        pass


@dataclass(frozen=True)
class Term:
    """One objective and its weight, which may change with ``updates``."""

    objective: Objective
    weight: Schedule


class Learner:
    """Adam on the weighted sum of the terms, gradients clipped to a global norm."""

    def __init__(
        self,
        network: QNetwork,
        terms: Mapping[str, Term],
        *,
        learning_rate: Schedule,
        max_grad_norm: float,
        forward: StepQ,
        autocast: torch.dtype | None = None,
        average: float = 0.0,
    ) -> None:
        """Learn through ``forward(obs, updates)``, a pass of the network, perhaps with dropout.

        ``averaged`` is the running average of the weights with decay ``average`` (Polyak & Juditsky
        1992; shorter at first), or the network itself if that is 0.
        """
        self.network = network
        self.averaged = copy.deepcopy(network).requires_grad_(False) if average else network
        self.updates = 0
        self._average = average
        self._terms = dict(terms)
        self._is_taught = any(isinstance(t.objective, Distillation) for t in terms.values())
        self._forward = forward
        self._learning_rate = learning_rate
        self._max_grad_norm = max_grad_norm
        self._autocast = autocast
        self._device = next(network.parameters()).device
        self._optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate(0), fused=True)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Take one optimiser step; return what it measured, detached and still on the device."""
        learning_rate = self._learning_rate(self.updates)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        batch = batch.to(self._device)
        with torch.autocast(self._device.type, self._autocast, enabled=self._autocast is not None):
            q = self._forward(batch.obs, self.updates)
            losses = {name: term.objective(q, batch).mean() for name, term in self._terms.items()}
        loss = torch.stack(
            [term.weight(self.updates) * losses[name] for name, term in self._terms.items()]
        ).sum()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self._max_grad_norm)
        self._optimizer.step()
        self.updates += 1
        self._move_average()
        for term in self._terms.values():
            term.objective.after_update(self.updates)
        detached = q.detach()
        measured = {
            "train/loss": loss.detach(),
            "train/grad_norm": norm,
            "train/q": detached.max(1).values.mean(),
            **{f"train/loss_{name}": value.detach() for name, value in losses.items()},
        }
        if self._is_taught:
            same = detached.argmax(1) == batch.label.argmax(1)
            measured["distill/agreement"] = same.float().mean()
        return measured

    def is_finite(self) -> bool:
        """Return whether the network still is made of numbers; what diverged never comes back."""
        return all(bool(torch.isfinite(p).all()) for p in self.network.parameters())

    @torch.no_grad()
    def _move_average(self) -> None:
        if self.averaged is not self.network:
            decay = min(self._average, self.updates / (self.updates + 10.0))
            torch._foreach_lerp_(
                list(self.averaged.parameters()), list(self.network.parameters()), 1.0 - decay
            )

    def state(self) -> State:
        optimizer = self._optimizer.state_dict()["state"]
        return {
            "updates": self.updates,
            "network": dict(self.network.state_dict()),
            "averaged": dict(self.averaged.state_dict()),
            "optimizer": {str(i): dict(moments) for i, moments in optimizer.items()},
            "terms": {name: term.objective.state() for name, term in self._terms.items()},
        }

    def restore(self, state: State) -> None:
        self.updates = int(state["updates"])
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        whole = self._optimizer.state_dict()
        whole["state"] = {int(i): moments for i, moments in state["optimizer"].items()}
        self._optimizer.load_state_dict(whole)
        for name, term in self._terms.items():
            term.objective.restore(state["terms"][name])

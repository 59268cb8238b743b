"""What a step of learning is: a weighted sum of objectives on one network.

Double Q-learning is one objective, distillation another; their sum with a scheduled weight is
kickstarting (Schmitt et al. 2018, eq. 3). There is one learner.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import msgspec
import torch
from torch import Tensor, nn

from tutelage.errors import look_up
from tutelage.types import Batch, Counted, Schedule, State, StepOut, load_weights


class Objective(Protocol):
    """One term of what is minimised."""

    def __call__(self, out: Tensor, batch: Batch) -> Tensor:
        """Return the loss of each sample, ``[B]``, from the network's ``out[B,L]``."""

    def measure(self, out: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        """Return what there is to tell of a batch beside its loss, as TensorBoard names it."""

    def after_update(self, updates: int) -> None:
        """Do what is due after an update, such as copying a target network."""

    def state(self) -> State: ...
    def restore(self, state: State) -> None: ...


@dataclass(frozen=True)
class Term:
    """One objective and its weight, which may change with ``updates``."""

    objective: Objective
    weight: Schedule


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, fused=True),
    "radam": partial(torch.optim.RAdam, foreach=True),
}
"""Name -> optimiser of parameters with a rate ``lr``; both keep two moments of each."""


class Learner:
    """Gradient descent on the weighted sum of the terms, gradients clipped to a global norm."""

    def __init__(
        self,
        network: nn.Module,
        terms: Mapping[str, Term],
        *,
        learning_rate: Schedule,
        max_grad_norm: float,
        forward: StepOut,
        optimizer: str = "adam",
        autocast: torch.dtype | None = None,
        average: float = 0.0,
    ) -> None:
        """Learn through ``forward(obs, updates)``, a pass of the network, perhaps with dropout.

        ``averaged`` is the running average of the weights with decay ``average`` (Polyak & Juditsky
        1992; shorter at first), or the network itself if that is 0. ``optimizer`` is one of
        ``OPTIMIZERS``.
        """
        self.network = network
        self.averaged = copy.deepcopy(network).requires_grad_(False) if average else network
        self.updates = 0
        self._average = average
        self._terms = dict(terms)
        self._forward = forward
        self._learning_rate = learning_rate
        self._max_grad_norm = max_grad_norm
        self._autocast = autocast
        self._device = next(network.parameters()).device
        self._learnt = [p for p in network.parameters() if p.requires_grad]
        build = look_up("optimizer", optimizer, OPTIMIZERS)
        self._optimizer = build(self._learnt, lr=learning_rate(0))

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Take one optimiser step; return what it measured, detached and still on the device."""
        learning_rate = self._learning_rate(self.updates)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        batch = batch.to(self._device)
        with torch.autocast(self._device.type, self._autocast, enabled=self._autocast is not None):
            out = self._forward(batch.obs, self.updates)
            losses = {name: term.objective(out, batch).mean() for name, term in self._terms.items()}
        loss = torch.stack(
            [term.weight(self.updates) * losses[name] for name, term in self._terms.items()]
        ).sum()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self._learnt, self._max_grad_norm)
        self._optimizer.step()
        self.updates += 1
        self._move_average()
        for term in self._terms.values():
            term.objective.after_update(self.updates)
        with torch.no_grad():
            measured = {
                "train/loss": loss.detach(),
                "train/grad_norm": norm,
                **{f"train/loss_{name}": value.detach() for name, value in losses.items()},
            }
            for term in self._terms.values():
                measured |= term.objective.measure(out.detach(), batch)
        return measured

    @torch.no_grad()
    def examine(self, batch: Batch) -> dict[str, float]:
        """Return what an update would measure of a batch, by the averaged weights; learn nothing.

        Losses by their names, measures by theirs without their group.
        """
        out = self.averaged(batch.to(self._device).obs)
        measured: dict[str, Tensor] = {}
        for name, term in self._terms.items():
            measured[f"loss_{name}"] = term.objective(out, batch).mean()
            for key, value in term.objective.measure(out, batch).items():
                measured[key.partition("/")[2]] = value
        return {name: float(value) for name, value in measured.items()}

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
            for ours, theirs in zip(self.averaged.buffers(), self.network.buffers(), strict=True):
                ours.copy_(theirs)  # what batch normalisation has seen

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
        saved = msgspec.convert(state, Learnt)
        self.updates = saved.updates
        load_weights(self.network, saved.network)
        load_weights(self.averaged, saved.averaged)
        whole = self._optimizer.state_dict()
        whole["state"] = {int(i): moments for i, moments in saved.optimizer.items()}
        shapes = {i: {n: m.shape for n, m in of.items()} for i, of in whole["state"].items()}
        if shapes not in ({}, self._moments()):
            raise ValueError("the optimizer's moments are not those of the network")
        self._optimizer.load_state_dict(whole)
        for name, term in self._terms.items():
            term.objective.restore(saved.terms[name])

    def _moments(self) -> dict[int, dict[str, torch.Size]]:
        """Return the shapes of what an optimiser keeps of each parameter."""
        return {
            i: {"step": torch.Size(), "exp_avg": p.shape, "exp_avg_sq": p.shape}
            for i, p in enumerate(self._learnt)
        }


class Learnt(msgspec.Struct):
    """What a checkpoint holds of a learner."""

    updates: Counted
    network: dict[str, Tensor]
    averaged: dict[str, Tensor]
    optimizer: dict[str, dict[str, Tensor]]
    terms: dict[str, dict[str, Any]]

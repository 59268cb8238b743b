"""What every policy is, teacher or student, ours or another library's, and what is known of one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tutelage.errors import MisfitError, counted
from tutelage.heads import Head

Carry = tuple[Tensor, ...]
"""What a policy remembers of each environment: tensors ``[N,…]``; empty without a memory."""


@runtime_checkable
class Policy(Protocol):
    """Says L numbers of each state, which its head turns into actions."""

    @property
    def head(self) -> Head:
        """What the numbers mean."""

    def initial(self, n: int) -> Carry:
        """Return the memory of ``n`` environments whose episodes begin; () without a memory."""

    def step(self, obs: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        """Return ``out[N,L]`` for ``obs[N,*O]`` as the environment gives it, and the memory after.

        *O is ``[stack, *frame]``, oldest frame first; a vector is a stack of one.
        """


class Memoryless:
    """Makes a policy of a callable ``obs[N,*O] -> out[N,L]``, as a mixin or by itself."""

    __call__: Callable[..., Tensor]

    def initial(self, n: int) -> Carry:
        """There is nothing to remember."""
        return ()

    def step(self, obs: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        """Say what the callable says."""
        return self(obs), ()


@dataclass(frozen=True)
class Function(Memoryless):
    """A policy made of any function ``obs[N,*O] -> out[N,L]``."""

    function: Callable[[Tensor], Tensor]
    head: Head

    def __call__(self, obs: Tensor) -> Tensor:
        return self.function(obs)


@dataclass(frozen=True)
class Model:
    """A policy and what is known of it."""

    policy: Policy
    name: str
    """What it was asked for by: a file, a run's folder, a bundled name, ``module:name``."""
    format: str
    """tutelage, sb3, onnx, …"""
    env: str = ""
    """The environment it was made for, such as ``pong``; empty where nothing says."""
    obs_shape: tuple[int, ...] | None = None
    """``*O`` of one observation, where that is known."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """What its maker wrote down: how it was trained, ``mean_return``, ``reward_per_step``, …"""
    parameters: int = 0
    """Of the acting network; 0 where it has none that can be counted."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The files that were read -> their digests."""
    path: Path | None = None
    """The main one of them."""


def unlike(sees: Sequence[int | None], gives: Sequence[int]) -> MisfitError:
    """Return the error for observations of other shapes, where None is any side."""
    return MisfitError(f"sees {_numbers(sees)}", f"gives {_numbers(gives)}")


def _numbers(shape: Sequence[int | None]) -> str:
    """Return how many numbers an observation has: ``8 numbers``, ``4 x 84 x 84 numbers``."""
    sides = shape[1:] if shape and shape[0] == 1 else shape
    if len(sides) == 1 and sides[0] is not None:
        return counted(sides[0], "number")
    return f"{' x '.join('any' if side is None else str(side) for side in sides)} numbers"


def natural(obs: Tensor) -> Tensor:
    """Return ``obs[N,stack,*frame]`` as others take it: without the axis of a single frame."""
    return obs[:, 0] if obs.shape[1] == 1 and obs.ndim > 2 else obs


def allowed(out: Tensor, mask: npt.NDArray[np.bool_] | None) -> Tensor:
    """Return ``out[N,A]`` with -inf for actions that are not to be had, as ``mask[N,A]`` says."""
    if mask is None:
        return out
    return out.masked_fill(~torch.from_numpy(mask).to(out.device), -torch.inf)


def begin_again(policy: Policy, carry: Carry, ended: npt.NDArray[np.bool_]) -> Carry:
    """Return the memory ``carry`` with that of environments ``ended[N]`` as at a beginning."""
    if not carry or not ended.any():
        return carry
    fresh = policy.initial(len(ended))
    which = torch.from_numpy(ended).to(carry[0].device)

    def chosen(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(which.view(-1, *[1] * (old.ndim - 1)), new.to(old.device), old)

    return tuple(chosen(new, old) for new, old in zip(fresh, carry, strict=True))

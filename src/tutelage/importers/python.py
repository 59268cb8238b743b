"""Policies in Python: ``MODULE:NAME``, which is a program that a person names as one."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tutelage.errors import UserError, choose_from
from tutelage.files import file_digest
from tutelage.heads import Head
from tutelage.importers.base import (
    Observation,
    Reading,
    Space,
    chosen_head,
    count_parameters,
    line_of,
)
from tutelage.policies import Carry, Model, Policy, natural
from tutelage.specs import load_object


def load(
    name: str,
    *,
    space: Space | None = None,
    head: str = "",
    units: str = "env",
    arrays: str = "torch",
) -> Model:
    """Return what ``MODULE:NAME`` is, or makes, if it is a class.

    ``head``, ``units`` and ``arrays`` are as in ``policy_of``. Raises UserError where there is no
    such thing, and where it is no policy.
    """
    found = load_object("policy", name)
    if isinstance(found, type):
        try:
            found = found()
        except Exception as error:
            raise UserError(
                f"policy {name}: {found.__name__}() failed: {line_of(error)}"
            ) from error
    policy = policy_of(found, head=head, space=space, units=units, arrays=arrays)
    source = getattr(sys.modules[name.partition(":")[0]], "__file__", None)
    return Model(
        policy,
        name=name,
        format="python",
        parameters=count_parameters(found) if isinstance(found, nn.Module) else 0,
        files={Path(source).name: file_digest(Path(source))} if source else {},
    )


def policy_of(
    given: Any,
    *,
    head: Head | str = "",
    space: Space | None = None,
    units: str = "",
    arrays: str = "torch",
) -> Policy:
    """Return a Policy as it is, and one made of an ``nn.Module`` or any callable.

    A callable takes ``obs[N,*frame]`` (``[N,stack,*frame]`` of several frames; a mapping of a Dict
    space) as ``arrays`` says, torch or numpy, and returns ``[N,L]`` numbers of its ``head``, or
    whole numbers: the actions themselves. Continuous actions are in ``units`` of the environment
    (env), or of their range, which is usual where a Head is given. Raises UserError for anything
    else.
    """
    if all(hasattr(given, name) for name in ("head", "initial", "step")):
        policy: Policy = given
        return policy
    if not callable(given):
        raise UserError(
            f"a policy is a Policy, an nn.Module or a callable obs -> numbers, got a "
            f"{type(given).__name__}"
        )
    if arrays not in ("torch", "numpy"):
        raise choose_from("arrays", arrays, ["torch", "numpy"])
    if isinstance(given, nn.Module):
        given.eval()
    units = units or ("env" if isinstance(head, str) else "range")
    if isinstance(head, str):
        head = chosen_head(head, space, None)
    return CallablePolicy(given, Reading(head, space, units), arrays == "numpy")


class CallablePolicy(nn.Module):
    """A policy made of a function of others' making, whose every answer is checked."""

    takes_parts = True

    def __init__(self, function: Callable[[Any], Any], read: Reading, numpy: bool) -> None:
        super().__init__()
        self.function = function
        self._read = read
        self._numpy = numpy

    @property
    def head(self) -> Head:
        """What the numbers mean."""
        return self._read.head

    def initial(self, n: int) -> Carry:
        """There is no memory."""
        return ()

    def step(self, obs: Observation, carry: Carry) -> tuple[Tensor, Carry]:
        """Return ``out[N,L]``."""
        if isinstance(obs, Tensor):
            seen: Any = self._seen(natural(obs))
            first = obs
        else:
            one = all(part.shape[1] == 1 for part in obs.values())
            seen = {key: self._seen(part[:, 0] if one else part) for key, part in obs.items()}
            first = next(iter(obs.values()))
        with torch.no_grad():
            said = self.function(seen)
        if isinstance(said, Mapping) or not isinstance(said, Tensor | np.ndarray | list | tuple):
            raise UserError(
                f"the policy says a {type(said).__name__}, expected numbers {[len(first)]} or "
                f"{[len(first), self.head.size]}"
            )
        try:
            return self._read(said, first.shape[0]).to(first.device), ()
        except (TypeError, ValueError) as error:
            raise UserError(f"the policy says no numbers: {line_of(error)}") from error

    def _seen(self, x: Tensor) -> Any:
        if self._numpy:
            return x.cpu().numpy()
        # A module multiplies floating-point numbers; anything else sees what the environment gave.
        return x.float() if isinstance(self.function, nn.Module) else x

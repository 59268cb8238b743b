"""An ONNX file as a part of the graph that is exported: what is done before it, and after it."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.errors import UserError
from tutelage.exporters.base import Portable, innermost
from tutelage.importers.base import line_of
from tutelage.importers.onnx import OnnxPolicy
from tutelage.policies import Carry, Policy

PREFIX = "file_"
"""Begins the names of the file's own values."""


def within(policy: Policy) -> OnnxPolicy | None:
    """Return the ONNX file that a policy asks, if it does."""
    inner = innermost(policy)
    return inner if isinstance(inner, OnnxPolicy) else None


def read(onnx: Any, where: str, opset: int) -> Any:
    """Return a file's model, of another opset where need be, for any number of states."""
    try:
        model = onnx.load(where)
        own = {one.domain: one.version for one in model.opset_import}
        if own.get("", own.get("ai.onnx")) != opset:
            model = onnx.version_converter.convert_version(model, opset)
        return onnx.compose.add_prefix(model, PREFIX)
    except Exception as error:  # it has no one error of its own
        raise UserError(f"{where} cannot be made opset {opset}: {line_of(error)}") from error


def turned(onnx: Any, source: OnnxPolicy, *, into: bool) -> tuple[list[Any], list[str]]:
    """Return what moves the side that counts states, and the names on the policy's own side.

    ``into`` the file's inputs, or out of its outputs. Raises UserError for a memory of whole
    numbers.
    """
    if any(one.type != "tensor(float)" for one in source.states):
        raise UserError(f"{source.where} remembers what is no float32: it cannot be exported")
    names = [*source.shapes, *(one.name for one in source.states)] if into else source.outputs
    nodes, outside = [], [f"{PREFIX}{name}" for name in names]
    for i, (one, axis) in enumerate(zip(source.states, source.axes, strict=True)):
        if axis == 0:
            continue
        at = len(names) - len(source.states) + i
        order = list(range(len(one.shape)))
        order.insert(axis if into else 0, order.pop(0 if into else axis))
        inner, outside[at] = outside[at], f"{outside[at]}_turned"
        given, said = (outside[at], inner) if into else (inner, outside[at])
        nodes.append(onnx.helper.make_node("Transpose", [given], [said], perm=order))
    return nodes, outside


def around(policy: Portable, source: OnnxPolicy) -> "tuple[Before, After]":
    """Return what is done to observations before the file sees them, and to what it says."""
    return Before(policy, source), After(policy, source)


class Before(nn.Module):
    """What the file is fed: ``(obs, *memory) -> inputs``."""

    def __init__(self, policy: Portable, source: OnnxPolicy) -> None:
        super().__init__()
        self._fed = _Fed(source)
        self._policy = _with(policy, self._fed)

    def forward(self, obs: Tensor, *memory: Tensor) -> tuple[Tensor, ...]:
        self._policy(obs, *memory)
        return self._fed.fed


class After(nn.Module):
    """What is made of the file's answer: ``(obs, said, *after) -> (action, numbers, *memory)``."""

    def __init__(self, policy: Portable, source: OnnxPolicy) -> None:
        super().__init__()
        self._policy = policy
        self._source = source

    def examples(self, n: int) -> tuple[Tensor, ...]:
        """Return an observation, and what the file says of it."""
        given = self._policy.examples(n)
        said = torch.zeros(n, self._source.head.size)
        return (given[0], said, *given[1:])

    def forward(self, obs: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        said, *after = given
        inner = _Said(self._source, said, tuple(after))
        answer: tuple[Tensor, ...] = _with(self._policy, inner)(obs, *after)
        return answer


def _with(policy: Portable, inner: Policy) -> Portable:
    """Return the policy with something else in place of the file."""

    def changed(one: Any) -> Any:
        if isinstance(one, OnnxPolicy):
            return inner
        other = copy.copy(one)
        other.__dict__ = {**one.__dict__, "_modules": dict(one._modules)}
        other._modules.pop("policy", None)
        other.policy = changed(one.policy)
        return other

    made: Portable = changed(policy)
    return made


class _Fed:
    """In place of the file: notes what that would be given."""

    def __init__(self, source: OnnxPolicy) -> None:
        self.head = source.head
        self.fed: tuple[Tensor, ...] = ()
        self._source = source

    def initial(self, n: int) -> Carry:
        return self._source.initial(n)

    def step(self, obs: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        self.fed = tuple(self._source.fed(obs, carry).values())
        return obs.new_zeros((obs.shape[0], self.head.size), dtype=torch.float32), carry


class _Said:
    """In place of the file: has its answer."""

    def __init__(self, source: OnnxPolicy, said: Tensor, after: Carry) -> None:
        self.head = source.head
        self._source = source
        self._said = said
        self._after = after

    def initial(self, n: int) -> Carry:
        return self._source.initial(n)

    def step(self, obs: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        return self._source.read(self._said, self._said.shape[0]), self._after

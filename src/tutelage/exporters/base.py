"""What exporters share: a policy with everything around it that acting needs, and its trace."""

import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from tutelage.errors import UserError
from tutelage.heads import Gaussian, Head, Point, QValues, check_actions, to_space
from tutelage.importers.base import line_of
from tutelage.importers.torchscript import ScriptPolicy
from tutelage.models import label_head
from tutelage.policies import Carry, Policy
from tutelage.types import Array
from tutelage.wrappers import Say, Wrapper

QUIET = ("lstm", "gru", "rnn_tanh", "rnn_relu", "dropout")
"""Operators that draw at random in training only."""
Run = Callable[..., Sequence[Array]]
"""A file in its own runtime: ``(obs[N,*shape], *memory[N,…]) -> (action, numbers, *memory)``."""
States = Callable[[int], list[tuple[Array, ...]]]
"""So many inputs of the file, ``(obs[1,*shape], *memory[1,…])``, that the policy came to."""


@dataclass(frozen=True)
class Written:
    """What an exporter wrote into a folder."""

    file: str
    """The name of the file that acts; others may stand beside it."""
    about: Mapping[str, Any]
    """What the contract says of the format: its opset, how many bytes it takes, …"""
    read_back: str = ""
    """How the file is named to an importer, behind its folder; empty where none reads it."""


@dataclass(frozen=True)
class Exporter:
    """A format that policies are taken elsewhere in."""

    write: "Callable[[Portable, Path, States], Written]"
    """``(policy, folder, states)``: raises UserError for what the format cannot say."""
    open: Callable[[Path, Written], Run]
    """``(folder, written)``: the file in its own runtime, on one thread."""
    min_agreement: float = 0.999
    """The least share of equal actions, where nothing else is asked for."""
    by_return: bool = False
    """Whether a return that is not inferior makes up for actions that differ."""


class Portable(nn.Module):
    """A policy from what its environment observes to what that environment takes.

    ``obs[N,*shape]`` is as the environment gives it, a stack of one left out; ``action[N,*A]`` in
    the environment's own numbers. ``numbers[N,L]`` are those of ``head``.
    """

    def __init__(
        self,
        policy: Policy,
        space: gymnasium.Space[Any],
        obs: Array,
        wrappers: Sequence[Wrapper] = (),
    ) -> None:
        """``obs[1,stack,*frame]`` is an example.

        Raises UserError for actions that do not fit, and for what cannot be exported at all.
        """
        super().__init__()
        check_actions(policy.head, space)
        if isinstance(innermost(policy), ScriptPolicy):
            raise UserError("the policy is TorchScript, which cannot be traced again")
        self.policy = policy
        self.head: Head = label_head(policy.head)
        self.space = space
        self.wrappers = tuple(wrappers)
        for wrapper in self.wrappers:
            if wrapper.say is not None:
                _refuse_drawing(wrapper.say, self.head, torch.from_numpy(obs))
        self.single = obs.shape[1] == 1 and obs.ndim > 2
        self.shape = obs.shape[2:] if self.single else obs.shape[1:]
        self.dtype = torch.uint8 if obs.dtype == np.uint8 else torch.float32
        first = policy.initial(1)
        if any(bool(part.any()) for part in first):
            raise UserError("the policy's memory does not begin at zero: it cannot be exported")
        self.memory = [tuple(part.shape[1:]) for part in first]

    @property
    def output(self) -> str:
        """What the numbers are called; the importer of ONNX files knows them by it."""
        if isinstance(self.head, QValues):
            return "q_values"
        if isinstance(self.head, Gaussian):
            return "mean_and_log_sd"
        return "action_in_range" if isinstance(self.head, Point) else "logits"

    @property
    def action_shape(self) -> tuple[int, ...]:
        """``*A`` of an action, as the head has it."""
        return tuple(self.head.mode(torch.zeros(1, self.head.size)).shape[1:])

    def natural(self, obs: Array) -> Array:
        """Return ``obs[N,stack,*frame]`` as the file takes it."""
        seen = obs[:, 0] if self.single else obs
        return np.ascontiguousarray(seen, np.uint8 if self.dtype == torch.uint8 else np.float32)

    def forward(self, obs: Tensor, *memory: Tensor) -> tuple[Tensor, ...]:
        seen = obs[:, None] if self.single else obs
        numbers, after = self.said(seen, memory)
        return (in_space(self.head.mode(numbers), self.space), numbers, *after)

    def said(self, obs: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        """Return ``numbers[N,L]`` of ``obs[N,stack,*frame]``, and the memory after."""
        seen = obs
        for wrapper in self.wrappers:
            seen = wrapper.see(seen) if wrapper.see else seen
        out, after = self.policy.step(seen, carry)
        numbers = self.policy.head.values(out)
        # Of a distribution over actions a wrapper changes the mean.
        n = numbers.shape[1] // 2 if isinstance(self.head, Gaussian) else numbers.shape[1]
        changed = numbers[:, :n]
        for wrapper in self.wrappers:
            if wrapper.say:
                changed = wrapper.say(changed, obs, torch.Generator())
        return (torch.cat([changed, numbers[:, n:]], 1) if self.wrappers else numbers), after

    def examples(self, n: int) -> tuple[Tensor, ...]:
        """Return inputs of ``n`` states, all zero."""
        obs = torch.zeros((n, *self.shape), dtype=self.dtype)
        return (obs, *(torch.zeros(n, *sides) for sides in self.memory))

    def inputs(self) -> list[str]:
        """Return the names of the file's inputs."""
        return ["obs", *(f"memory_{i}_in" for i in range(len(self.memory)))]

    def outputs(self) -> list[str]:
        """Return the names of the file's outputs."""
        return ["action", self.output, *(f"memory_{i}_out" for i in range(len(self.memory)))]


def innermost(policy: Policy) -> Policy:
    """Return the policy that what is done to observations and numbers stands around."""
    inner = getattr(policy, "policy", None)
    return policy if inner is None else innermost(inner)


def _refuse_drawing(say: Say, head: Head, obs: Tensor) -> None:
    """Raise UserError for a wrapper that draws at random."""
    generator = torch.Generator()
    before = generator.get_state()
    say(torch.zeros(1, head.size), obs, generator)
    if not torch.equal(before, generator.get_state()):
        raise UserError("the policy draws at random: it cannot be exported")


def in_space(action: Tensor, space: gymnasium.Space[Any]) -> Tensor:
    """Return a head's ``action[N,*A]`` in the numbers of ``space``, as ``heads.to_space`` has it.

    The shape is the head's: numbers one after the other, whatever shape the space has.
    """
    if isinstance(space, spaces.Discrete):
        return action + int(space.start) if int(space.start) else action
    if isinstance(space, spaces.MultiDiscrete):
        start = np.asarray(space.start).ravel()
        return action + torch.from_numpy(start.astype(np.int64)) if start.any() else action
    if not isinstance(space, spaces.Box):
        return action
    bounded = (np.isfinite(space.low) & np.isfinite(space.high)).ravel()
    low, high = (
        torch.from_numpy(np.where(bounded, side.ravel(), 0.0).astype(np.float32))
        for side in (space.low, space.high)
    )
    scaled = low + (action.clamp(-1.0, 1.0) + 1.0) / 2.0 * (high - low)
    if not bounded.all():
        scaled = torch.where(torch.from_numpy(bounded), scaled, action)
    most = np.finfo(np.float32).max
    least, largest = (
        torch.from_numpy(np.clip(side.ravel(), -most, most).astype(np.float32))
        for side in (space.low, space.high)
    )
    # Rounding may go beyond a bound by the last bit.
    scaled = torch.minimum(torch.maximum(scaled, least), largest)
    return scaled.round() if space.dtype.kind in "iu" else scaled


def expected_action(policy: Portable, numbers: Tensor) -> Array:
    """Return what the environment is to be given, flat, by the code that training runs."""
    action = policy.head.mode(numbers).cpu().numpy()
    given = to_space(action, policy.space)
    return given.reshape(action.shape)


@contextmanager
def _unheard() -> Iterator[None]:
    """Keep from the terminal what PyTorch logs and prints of a program that it cannot trace."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def trace(module: nn.Module, examples: Sequence[Tensor]) -> Any:
    """Return a module as a program of ``torch.export``, of any number of states.

    Raises UserError for what PyTorch cannot trace, and for what draws at random.
    """
    batch = torch.export.Dim("batch")
    first, *rest = ({0: batch} for _ in examples)
    shapes = (first, tuple(rest)) if rest else (first,)
    module.eval()
    try:
        with torch.no_grad(), _unheard():
            program = torch.export.export(
                module, tuple(examples), dynamic_shapes=shapes, strict=False
            )
    except UserError:
        raise
    except Exception as error:  # a program of others can fail in any part of PyTorch
        said = line_of(error)
        if "Constraints violated" in said:
            said = "its code fixes the number of states, as len(x) does; x.shape[0] does not"
        elif ".numpy()" in said:
            said = "it leaves PyTorch for NumPy or ONNX Runtime"
        elif "SpecViolation" in said:
            said = "it is TorchScript, which cannot be traced again"
        raise UserError(f"the policy cannot be traced by torch.export: {said}") from error
    for node in program.graph.nodes:
        drawn = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        if drawn and str(node.target).split(".")[1] not in QUIET:
            raise UserError(f"the policy draws at random ({node.target}): it cannot be exported")
    return program

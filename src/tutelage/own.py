"""A student that is a person's own module, given in Python or named as ``MODULE:NAME``."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.errors import UserError
from tutelage.files import digest
from tutelage.heads import HEADS, Head
from tutelage.policies import Memoryless, natural
from tutelage.specs import load_object


class Own(nn.Module, Memoryless):
    """A network of any layers: ``obs[B,*O] -> out[B,L]``, what it says checked and in fp32.

    The module sees ``obs[B,*frame]`` in fp32, ``[B,stack,*frame]`` of several frames, in the units
    of the environment. It learns in training mode and acts in evaluation mode.
    """

    def __init__(
        self, module: nn.Module, obs_shape: tuple[int, ...], head: Head, *, seed: int = 0
    ) -> None:
        """Take over ``module``, whose lazy layers are drawn from ``seed``.

        Raises UserError unless it says L numbers of an observation.
        """
        super().__init__()
        self.module = module.eval()
        self.obs_shape = obs_shape
        self.head = head
        with torch.no_grad(), drawing(seed):
            self(torch.zeros(2, *obs_shape))

    @property
    def name(self) -> str:
        """What its class is called."""
        return type(self.module).__qualname__

    def forward(self, obs: Tensor) -> Tensor:
        expected = [len(obs), self.head.size]
        try:
            said = self.module(natural(obs).float())
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"student {self.name} cannot take observations {list(natural(obs).shape[1:])}: "
                f"{reason}"
            ) from error
        if not isinstance(said, Tensor) or list(said.shape) != expected:
            shown = list(said.shape) if isinstance(said, Tensor) else f"a {type(said).__name__}"
            raise UserError(
                f"student {self.name} says {shown} of {len(obs)} observations, expected {expected} "
                f"({type(self.head).__name__})"
            )
        return said.float()

    def learning(self, obs: Tensor, seed: int) -> Tensor:
        """Return ``out`` in training mode, what its layers draw drawn from ``seed``."""
        with drawing(seed, obs.device):
            self.module.train()
            try:
                out: Tensor = self(obs)
                return out
            finally:
                self.module.eval()

    def fingerprint(self) -> str:
        """Return a digest of its layers and the shapes of its weights, not of their values."""
        shapes = {name: list(tensor.shape) for name, tensor in self.module.state_dict().items()}
        return digest(f"{self.module!r} {shapes}".encode())


Given = nn.Module | Callable[[], nn.Module]
"""A module, which is copied, or a class or function that makes one."""


def name_of(given: Given) -> str:
    """Return what a run calls a student that was given in Python."""
    kind = given if isinstance(given, type) or not isinstance(given, nn.Module) else type(given)
    return f"<{getattr(kind, '__qualname__', type(given).__qualname__)}>"


def make_own(given: Given | str, *, seed: int) -> nn.Module:
    """Return a module of the person's own; weights that are drawn are drawn from ``seed``.

    Raises UserError for what is no module and makes none, and for one that cannot be copied.
    """
    found: Any = load_object("student", given) if isinstance(given, str) else given
    name = given if isinstance(given, str) else name_of(given)
    with drawing(seed):
        try:
            made = copy.deepcopy(found) if isinstance(found, nn.Module) else found()
        except Exception as error:
            how = "be copied" if isinstance(found, nn.Module) else "be made"
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise UserError(f"student {name} cannot {how}: {reason}") from error
    if not isinstance(made, nn.Module) or isinstance(made, torch.jit.ScriptModule):
        raise UserError(
            f"student {name} is a {type(made).__name__}, expected a torch.nn.Module in Python"
        )
    return made


def said_head(module: nn.Module) -> Head | None:
    """Return what a module itself says that its numbers mean, by an attribute ``head``."""
    head: Any = getattr(module, "head", None)
    return head if type(head) in HEADS.values() else None


@contextmanager
def drawing(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Let PyTorch's own generators draw from ``seed``, and leave them as they were."""
    cuda = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        for one in cuda:
            torch.cuda.default_generators[one.index or 0].manual_seed(seed)
        yield

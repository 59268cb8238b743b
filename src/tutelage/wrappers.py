"""What may be done to a teacher: each wrapper changes what it sees or what it says.

They are written behind its name and compose from left to right: ``pong+delay:1+noise:0.5``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tutelage.domains.pong import parse_region
from tutelage.errors import UserError, look_up

See = Callable[[Tensor], Tensor]
"""``obs[B,*O] -> obs[B,*O]``."""
Say = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""``(q[B,A], obs[B,*O], generator) -> q[B,A]``."""


@dataclass(frozen=True)
class Wrapper:
    """One change to a teacher; what is None stays as it is."""

    see: See | None = None
    say: Say | None = None


def noise(text: str) -> Wrapper:
    """Add noise N(0, sigma^2) to each Q-value, fresh in each query (the paper, section 4.5)."""
    sigma = _number("noise", text)

    def say(q: Tensor, obs: Tensor, generator: torch.Generator) -> Tensor:
        return q + sigma * torch.randn(q.shape, generator=generator).to(q.device)

    return Wrapper(say=say)


def scale(text: str) -> Wrapper:
    """Multiply every Q-value: a student of KL at tau says q / tau, ``scale:TAU`` turns it back."""
    factor = _number("scale", text)
    return Wrapper(say=lambda q, obs, generator: factor * q)


def negate(text: str) -> Wrapper:
    """Say -q: an adversary, whose best action is the worst."""
    if text:
        raise UserError(f"wrapper negate takes no value, got {text!r}")
    return Wrapper(say=lambda q, obs, generator: -q)


def restrict(text: str) -> Wrapper:
    """Know nothing outside of a region: there q = 0 for every action."""
    region = parse_region(text)

    def say(q: Tensor, obs: Tensor, generator: torch.Generator) -> Tensor:
        inside = torch.from_numpy(np.asarray(region(obs.cpu().numpy())))
        return q * inside[:, None].to(q.device)

    return Wrapper(say=say)


def delay(text: str) -> Wrapper:
    """See a stack of frames as it was some env steps ago; its oldest frame is repeated."""
    steps = _number("delay", text)
    if steps != int(steps) or steps < 1:
        raise UserError(f"delay {text!r}, expected a whole number of env steps, 1 or more")

    def see(obs: Tensor) -> Tensor:
        if (stack := obs.shape[1]) <= steps:
            raise UserError(f"delay {text}: a stack of {stack} frames shows at most {stack - 1}")
        return obs[:, torch.arange(stack).sub(int(steps)).clamp(min=0)]

    return Wrapper(see=see)


WRAPPERS: dict[str, Callable[[str], Wrapper]] = {
    "noise": noise,
    "scale": scale,
    "negate": negate,
    "restrict": restrict,
    "delay": delay,
}
"""Name -> constructor from what follows the colon: ``noise:SIGMA``, ``restrict:REGION``, …"""


def parse_wrapper(text: str) -> Wrapper:
    """Return the wrapper that ``text``, such as ``noise:1``, spells.

    Raises UserError for an unknown one or a value that makes no sense.
    """
    name, _, value = text.partition(":")
    return look_up("wrapper of a teacher", name, WRAPPERS)(value)


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float("inf"):
        raise UserError(f"{name} {text!r}, expected a number of 0 or more, as in {name}:1")
    return value

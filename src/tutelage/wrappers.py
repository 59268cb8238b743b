"""What may be done to a teacher: each wrapper changes what it sees or what it says.

They are written behind its name and compose from left to right: ``ppo.zip+delay:1+noise:0.5``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from tutelage import specs
from tutelage.domains import Region
from tutelage.errors import UserError, look_up
from tutelage.specs import Between

See = Callable[[Tensor], Tensor]
"""``obs[B,*O] -> obs[B,*O]``."""
Say = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""``(label[B,L], obs[B,*O], generator) -> label[B,L]``."""
FromZero = Annotated[float, Between(0.0, 1e30)]


@dataclass(frozen=True)
class Wrapper:
    """One change to a teacher; what is None stays as it is."""

    see: See | None = None
    say: Say | None = None


def noise(sigma: FromZero) -> Wrapper:
    """Add noise N(0, sigma^2) to each number, fresh in each query (the paper, section 4.5)."""

    def say(label: Tensor, obs: Tensor, generator: torch.Generator) -> Tensor:
        return label + sigma * torch.randn(label.shape, generator=generator).to(label.device)

    return Wrapper(say=say)


def scale(factor: FromZero) -> Wrapper:
    """Multiply every number: Q-values of another scale, logits of another temperature."""
    return Wrapper(say=lambda label, obs, generator: factor * label)


def negate() -> Wrapper:
    """Say the opposite: an adversary, whose best action is the worst."""
    return Wrapper(say=lambda label, obs, generator: -label)


def restrict(region: str, *, regions: Mapping[str, Region]) -> Wrapper:
    """Know nothing outside of a region that the domain names: there all numbers are 0."""
    if not regions:
        raise UserError(f"restrict {region!r}: no region is known of what the teacher plays")
    inside_of = look_up("region", region, regions)

    def say(label: Tensor, obs: Tensor, generator: torch.Generator) -> Tensor:
        inside = torch.from_numpy(np.asarray(inside_of(obs.cpu().numpy())))
        return label * inside[:, None].to(label.device)

    return Wrapper(say=say)


def delay(steps: Annotated[int, Between(1, 10_000)]) -> Wrapper:
    """See a stack of frames as it was some env steps ago; its oldest frame is repeated."""

    def see(obs: Tensor) -> Tensor:
        if (stack := obs.shape[1]) <= steps:
            raise UserError(f"delay {steps}: a stack of {stack} frames shows at most {stack - 1}")
        return obs[:, torch.arange(stack).sub(steps).clamp(min=0)]

    return Wrapper(see=see)


WRAPPERS: dict[str, Callable[..., Wrapper]] = {
    "noise": noise,
    "scale": scale,
    "negate": negate,
    "restrict": restrict,
    "delay": delay,
}
"""Name -> constructor: ``noise:SIGMA``, ``restrict:REGION``, …"""


def parse_wrapper(text: str, regions: Mapping[str, Region]) -> Wrapper:
    """Return the wrapper that ``text``, such as ``noise:1``, spells.

    Raises UserError for an unknown one or a value that makes no sense.
    """
    given = {"regions": regions} if text.partition(":")[0] == "restrict" else {}
    return specs.build("wrapper of a teacher", text, WRAPPERS, **given)

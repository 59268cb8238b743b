"""What a teacher's label becomes before a loss sees it: ``label[B,L] -> target[B,L]``.

The paper, section 3.3: tau < 1 sharpens, tau > 1 softens. A new target is one function of tau
and its entry in the table.
"""

from collections.abc import Callable

from torch import Tensor

from tutelage.errors import UserError, look_up

Target = Callable[[Tensor], Tensor]


def raw(tau: float) -> Target:
    """Leave q as it is; tau is not used."""
    return lambda q: q


def divide(tau: float) -> Target:
    """Q / tau: the logits of the teacher's policy at temperature tau."""
    return lambda q: q / tau


def softmax(tau: float) -> Target:
    """Give the teacher's policy itself, for losses that compare numbers."""
    return lambda q: (q / tau).softmax(dim=1)


TARGETS: dict[str, Callable[[float], Target]] = {"raw": raw, "divide": divide, "softmax": softmax}


def parse_target(name: str, tau: float) -> Target:
    """Return the target of that name; raise UserError for an unknown one or tau <= 0."""
    target = look_up("target", name, TARGETS)
    if not tau > 0:
        raise UserError(f"tau must be a temperature above 0, got {tau}")
    return target(tau)

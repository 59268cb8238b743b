"""What a student pays for differing from its teacher: ``(student_q[B,A], target[B,A]) -> [B]``.

Nothing is averaged here: a batch's loss is the mean over B, whoever takes it. KL, MSE and NLL are
Rusu et al. 2015, section 3, as the paper's section 3.2 restates them. A new loss is one function
and its entry in the table.
"""

import math
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from tutelage.errors import UserError, look_up
from tutelage.types import check_shape

Loss = Callable[[Tensor, Tensor], Tensor]


def kl(student_q: Tensor, target: Tensor) -> Tensor:
    """KL = sum_a p_a ln(p_a / softmax(q^S)_a) with p = softmax(target), in log space.

    The target holds logits, so the temperature is the target's: q^T / tau.
    """
    _check(student_q, target)
    log_p = target.log_softmax(dim=1)
    return (log_p.exp() * (log_p - student_q.log_softmax(dim=1))).sum(dim=1)


def mse(student_q: Tensor, target: Tensor) -> Tensor:
    """MSE = ||target - q^S||^2, summed over actions."""
    _check(student_q, target)
    return (student_q - target).square().sum(dim=1)


def nll(student_q: Tensor, target: Tensor) -> Tensor:
    """NLL = -ln softmax(q^S)_a* with a* = argmax_a target_a: imitate the best action only."""
    _check(student_q, target)
    return F.cross_entropy(student_q, target.argmax(dim=1), reduction="none")


def mse_prob(student_q: Tensor, target: Tensor) -> Tensor:
    """MSE of action probabilities, ||softmax(target) - softmax(q^S)||^2 (the paper, 3.2)."""
    _check(student_q, target)
    return (student_q.softmax(dim=1) - target.softmax(dim=1)).square().sum(dim=1)


LOSSES: dict[str, Loss] = {"kl": kl, "mse": mse, "nll": nll, "mse-prob": mse_prob}


def parse_loss(text: str) -> Loss:
    """Return the loss, or weighted sum of losses, that ``text`` spells: ``kl``, ``mse:0.5+nll``.

    A name stands for a weight of 1. Raises UserError for an unknown name, for a weight below 0 and
    where all are 0.
    """
    terms: list[tuple[Loss, float]] = []
    for word in text.split("+"):
        name, _, weight = word.strip().partition(":")
        loss = look_up("loss", name, LOSSES)
        try:
            factor = float(weight or 1.0)
        except ValueError:
            factor = math.nan
        if not 0.0 <= factor < math.inf:
            raise UserError(
                f"unknown weight {weight!r} in loss {text!r}: "
                "expected a number from 0 up, as in mse:0.5"
            )
        terms.append((loss, factor))
    if not any(factor for _, factor in terms):
        raise UserError(f"every weight in loss {text!r} is 0: nothing would be learnt")

    def weighted(student_q: Tensor, target: Tensor) -> Tensor:
        first, *others = (weight * loss(student_q, target) for loss, weight in terms)
        return sum(others, first)

    return weighted


def _check(student_q: Tensor, target: Tensor) -> None:
    check_shape("student_q", student_q, (None, None))
    check_shape("target", target, tuple(student_q.shape))

"""What a student pays for differing from its teacher: ``(out[B,L], target[B,L], head) -> [B]``.

Nothing is averaged here: a batch's loss is the mean over B, whoever takes it. KL, MSE and NLL are
Rusu et al. 2015, section 3, as the paper's section 3.2 restates them. A new loss is one function
and its entry in the table, which says what heads it fits. An action that a teacher rules out by
-inf has no probability, and there is nothing to learn of its value.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from tutelage.errors import UserError
from tutelage.heads import Categorical, Head, QValues
from tutelage.specs import resolve
from tutelage.types import check_shape

Loss = Callable[[Tensor, Tensor, Head], Tensor]


@dataclass(frozen=True)
class LossEntry:
    """A loss and the heads that it fits."""

    loss: Loss
    heads: tuple[type, ...]


def kl(out: Tensor, target: Tensor, head: Head) -> Tensor:
    """KL = sum_a p_a ln(p_a / softmax(out)_a) with p = softmax(target), in log space.

    The target holds logits, so the temperature is the target's: q^T / tau.
    """
    _check(out, target)
    log_p = target.log_softmax(dim=1)
    p = log_p.exp()
    # 0 ln 0 = 0: of an action without probability neither the loss nor its gradient is infinite.
    return (p * (log_p.masked_fill(p == 0.0, 0.0) - out.log_softmax(dim=1))).sum(dim=1)


def mse(out: Tensor, target: Tensor, head: Head) -> Tensor:
    """MSE = ||target - out||^2, summed over actions, but those that the teacher rules out."""
    _check(out, target)
    ruled_out = target.isinf()
    difference = out.masked_fill(ruled_out, 0.0) - target.masked_fill(ruled_out, 0.0)
    return difference.square().sum(dim=1)


def nll(out: Tensor, target: Tensor, head: Head) -> Tensor:
    """NLL = -ln softmax(out)_a* with a* = argmax_a target_a: imitate the best action only."""
    _check(out, target)
    return F.cross_entropy(out, target.argmax(dim=1), reduction="none")


def mse_prob(out: Tensor, target: Tensor, head: Head) -> Tensor:
    """MSE of action probabilities, ||softmax(target) - softmax(out)||^2 (the paper, 3.2)."""
    _check(out, target)
    return (out.softmax(dim=1) - target.softmax(dim=1)).square().sum(dim=1)


CHOICES = (QValues, Categorical)
LOSSES: dict[str, LossEntry] = {
    "kl": LossEntry(kl, CHOICES),
    "mse": LossEntry(mse, CHOICES),
    "nll": LossEntry(nll, CHOICES),
    "mse-prob": LossEntry(mse_prob, CHOICES),
}


def parse_loss(text: str, head: Head, losses: Mapping[str, LossEntry] = LOSSES) -> Loss:
    """Return the loss, or weighted sum of losses, that ``text`` spells: ``kl``, ``mse:0.5+nll``.

    A name stands for a weight of 1; a loss of your own is ``MODULE:NAME``. Raises UserError for an
    unknown name, one that does not fit ``head``, a weight below 0 and where all are 0.
    """
    terms: list[tuple[Loss, float]] = []
    for word in text.split("+"):
        found, weight = resolve("loss", word.strip(), losses)
        entry = found if isinstance(found, LossEntry) else LossEntry(found, (object,))
        if not isinstance(head, entry.heads):
            fitting = sorted(name for name, e in losses.items() if isinstance(head, e.heads))
            raise UserError(
                f"loss {word!r} does not fit a {type(head).__name__} head: choose from "
                + ", ".join(fitting)
            )
        try:
            factor = float(weight or 1.0)
        except ValueError:
            factor = math.nan
        if not 0.0 <= factor < math.inf:
            raise UserError(
                f"unknown weight {weight!r} in loss {text!r}: "
                "expected a number from 0 up, as in mse:0.5"
            )
        terms.append((entry.loss, factor))
    if not any(factor for _, factor in terms):
        raise UserError(f"every weight in loss {text!r} is 0: nothing would be learnt")

    def weighted(out: Tensor, target: Tensor, head: Head) -> Tensor:
        first, *others = (weight * loss(out, target, head) for loss, weight in terms)
        return sum(others, first)

    return weighted


def _check(out: Tensor, target: Tensor) -> None:
    check_shape("out", out, (None, None))
    check_shape("target", target, tuple(out.shape))

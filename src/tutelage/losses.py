"""What a student pays for differing from its teacher: ``(out[B,L], target[B,L], head) -> [B]``.

Nothing is averaged here: a batch's loss is the mean over B, whoever takes it. KL, MSE and NLL are
Rusu et al. 2015, section 3, as the paper's section 3.2 restates them. A new loss is one function
and its entry in the table, which says what heads it fits. An action that a teacher rules out by
-inf has no probability, and there is nothing to learn of its value.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.errors import UserError
from tutelage.heads import (
    Bernoulli,
    Categorical,
    Gaussian,
    Head,
    MultiCategorical,
    Point,
    QValues,
)
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

    The target holds logits, so the temperature is the target's: q^T / tau. Independent choices add
    up.
    """
    return _over_choices(
        out,
        target,
        head,
        lambda ours, theirs: _relative(theirs.log_softmax(1), ours.log_softmax(1)),
    )


def reverse_kl(out: Tensor, target: Tensor, head: Head) -> Tensor:
    """KL = sum_a s_a ln(s_a / p_a) with s = softmax(out): a small student keeps to what is likely.

    Mode-seeking where ``kl`` is mode-covering (Czarnecki et al. 2019, section 3). An action that
    the teacher rules out is taken for one of probability e^-30.
    """
    return _over_choices(
        out,
        target,
        head,
        lambda ours, theirs: _relative(
            ours.log_softmax(1), theirs.log_softmax(1).clamp(min=LEAST_LOG)
        ),
    )


def jensen_shannon(out: Tensor, target: Tensor, head: Head) -> Tensor:
    """JS = KL(p, m) / 2 + KL(s, m) / 2 with m = (p + s) / 2 (Lin 1991), from 0 to ln 2."""

    def between(ours: Tensor, theirs: Tensor) -> Tensor:
        log_s, log_p = ours.log_softmax(1), theirs.log_softmax(1)
        log_m = torch.logaddexp(log_s, log_p.clamp(min=LEAST_LOG)) - math.log(2.0)
        return (_relative(log_p, log_m) + _relative(log_s, log_m)) / 2.0

    return _over_choices(out, target, head, between)


LEAST_LOG = -30.0
"""A log-probability below which nothing is told apart."""


def _relative(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return sum_a p_a (ln p_a - ln q_a), ``[B]``; 0 ln 0 = 0, in the loss and in its gradient."""
    p = log_p.exp()
    return (p * (log_p.masked_fill(p == 0.0, 0.0) - log_q)).sum(dim=1)


def mse(out: Tensor, target: Tensor, head: Head) -> Tensor:
    """MSE = ||target - out||^2, summed over numbers, but those that the teacher rules out.

    Of continuous actions the numbers are in units of half their range, whatever the robot.
    """
    _check(out, target)
    ruled_out = target.isinf()
    difference = out.masked_fill(ruled_out, 0.0) - target.masked_fill(ruled_out, 0.0)
    return difference.square().sum(dim=1)


def huber(out: Tensor, target: Tensor, head: Head) -> Tensor:
    """Huber's loss of each number, x^2 / 2 up to 1 and |x| - 1 / 2 beyond, summed (Huber 1964)."""
    _check(out, target)
    return F.huber_loss(out, target, reduction="none").sum(dim=1)


def nll(out: Tensor, target: Tensor, head: Head) -> Tensor:
    """NLL = -ln softmax(out)_a* with a* = argmax_a target_a: imitate the best action only."""

    def of(ours: Tensor, theirs: Tensor) -> Tensor:
        return F.cross_entropy(ours, theirs.argmax(dim=1), reduction="none")

    return _over_choices(out, target, head, of)


def mse_prob(out: Tensor, target: Tensor, head: Head) -> Tensor:
    """MSE of action probabilities, ||softmax(target) - softmax(out)||^2 (the paper, 3.2)."""

    def of(ours: Tensor, theirs: Tensor) -> Tensor:
        return (ours.softmax(dim=1) - theirs.softmax(dim=1)).square().sum(dim=1)

    return _over_choices(out, target, head, of)


def gaussian_kl(out: Tensor, target: Tensor, head: Head) -> Tensor:
    """KL(N(m, s^2), N(m', s'^2)) = sum ln(s' / s) + (s^2 + (m - m')^2) / (2 s'^2) - 1/2.

    The teacher's m, s first, before any squashing, which changes no divergence. Standard
    deviations are held above 0.01 of half the range, so that a teacher that is sure has a bound.
    """
    _check(out, target)
    mean, log_sd = out.chunk(2, dim=1)
    their_mean, their_log_sd = target.chunk(2, dim=1)
    log_sd, their_log_sd = (x.clamp(min=LEAST_LOG_SD) for x in (log_sd, their_log_sd))
    variance = (2.0 * their_log_sd).exp() + (their_mean - mean).square()
    each = log_sd - their_log_sd + variance / (2.0 * (2.0 * log_sd).exp()) - 0.5
    return each.sum(dim=1)


def gaussian_nll(out: Tensor, target: Tensor, head: Head) -> Tensor:
    """NLL = sum ln s' + (m - m')^2 / (2 s'^2): of the teacher's mean m under the student's."""
    _check(out, target)
    mean, log_sd = out.chunk(2, dim=1)
    their_mean, _ = target.chunk(2, dim=1)
    log_sd = log_sd.clamp(min=LEAST_LOG_SD)
    return (log_sd + (their_mean - mean).square() / (2.0 * (2.0 * log_sd).exp())).sum(dim=1)


LEAST_LOG_SD = math.log(0.01)

CHOICES = (QValues, Categorical, MultiCategorical, Bernoulli)
NUMBERS = (*CHOICES, Point, Gaussian)
LOSSES: dict[str, LossEntry] = {
    "kl": LossEntry(kl, CHOICES),
    "reverse-kl": LossEntry(reverse_kl, CHOICES),
    "js": LossEntry(jensen_shannon, CHOICES),
    "mse": LossEntry(mse, NUMBERS),
    "huber": LossEntry(huber, (Point,)),
    "nll": LossEntry(nll, CHOICES),
    "mse-prob": LossEntry(mse_prob, CHOICES),
    "gaussian-kl": LossEntry(gaussian_kl, (Gaussian,)),
    "gaussian-nll": LossEntry(gaussian_nll, (Gaussian,)),
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
        if not callable(entry.loss):
            raise UserError(f"loss {word!r} is no function")
        if not isinstance(head, entry.heads):
            fitting = sorted(name for name, e in losses.items() if isinstance(head, e.heads))
            kind, actions = type(head).__name__, "discrete" if head.discrete else "continuous"
            raise UserError(
                f"loss {word!r} does not fit {actions} actions (head {kind}): "
                f"choose from {', '.join(fitting)}"
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


def _over_choices(
    out: Tensor, target: Tensor, head: Head, loss: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Return the sum over independent choices of ``loss(ours[B,n], theirs[B,n]) -> [B]``."""
    _check(out, target)
    parts = zip(head.choices(out), head.choices(target), strict=True)
    return reduce(torch.add, (loss(ours, theirs) for ours, theirs in parts))


def _check(out: Tensor, target: Tensor) -> None:
    check_shape("out", out, (None, None))
    check_shape("target", target, tuple(out.shape))

"""What a policy's numbers mean: each head turns ``out[N,L]`` into actions ``[N,*A]``.

A policy, teacher or student, says L numbers a state. Everything between (replay, data sets,
selectors, trust) carries them as ``label[N,L]`` and does not look inside; a head does. A new head
is one class and its entry in ``HEADS``.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, Protocol

import gymnasium
import msgspec
import numpy as np
import torch
from gymnasium import spaces
from msgspec import Meta
from torch import Tensor

from tutelage.errors import MisfitError, UserError, choose_from, counted
from tutelage.specs import is_place
from tutelage.types import Array

Count = Annotated[int, Meta(ge=1, le=2**20)]


class UnknownHeadError(UserError):
    """A head is from outside of the package, and its module was not imported."""


class Head(Protocol):
    """What L numbers a state say about the action to take."""

    @property
    def size(self) -> int:
        """L, the numbers per state."""

    def values(self, out: Tensor) -> Tensor:
        """Return a label, ``[N,L]``, of what a network says: Q-values without their temperature."""

    @property
    def discrete(self) -> bool:
        """Whether actions are chosen from finitely many, and so equal or not."""

    def choices(self, out: Tensor) -> tuple[Tensor, ...]:
        """Return the logits ``[N,n_i]`` of each independent choice of a discrete action."""

    def mode(self, out: Tensor) -> Tensor:
        """Return the action meant, ``[N,L] -> [N,*A]``: the likeliest, or of the largest value."""

    def sample(self, out: Tensor, rng: np.random.Generator, tau: float = 1.0) -> Tensor:
        """Draw an action of the policy at temperature ``tau``, ``[N,L] -> [N,*A]``."""

    def random(self, n: int, rng: np.random.Generator) -> Array:
        """Draw ``n`` actions uniformly, ``[n,*A]``."""

    def compare(self, ours: Tensor, theirs: Tensor) -> Mapping[str, Tensor]:
        """Return what a person may read of how far ``ours[N,L]`` is from ``theirs``, ``[N]`` each.

        ``agreement`` is in [0, 1], 1 where both mean the same action.
        """

    def fits(self, space: gymnasium.Space[Any]) -> bool:
        """Return whether its actions are those of ``space``, as ``head_for`` numbers them."""


def _gumbel_argmax(logits: Tensor, rng: np.random.Generator) -> Tensor:
    """Draw from softmax(logits), ``[...,n] -> [...]``; it cannot overflow (Gumbel-max trick)."""
    noisy = logits.detach().cpu().numpy() + rng.gumbel(size=tuple(logits.shape))
    return torch.from_numpy(np.asarray(noisy.argmax(axis=-1)))


class _Plain:
    """A head whose numbers need no conversion."""

    def values(self, out: Tensor) -> Tensor:
        return out


@dataclass(frozen=True)
class QValues:
    """The value of each of ``n`` actions; the largest is meant.

    ``temperature``: the numbers are q / temperature. A student taught by KL at tau says q / tau
    (the paper, section 3.3), so that its file says how they become values again.
    """

    n: Count
    temperature: Annotated[float, Meta(gt=0.0, le=1e30)] = 1.0
    discrete = True

    def values(self, out: Tensor) -> Tensor:
        return out if self.temperature == 1.0 else self.temperature * out

    @property
    def size(self) -> int:
        return self.n

    def choices(self, out: Tensor) -> tuple[Tensor, ...]:
        return (out,)

    def mode(self, out: Tensor) -> Tensor:
        return out.argmax(dim=1)

    def sample(self, out: Tensor, rng: np.random.Generator, tau: float = 1.0) -> Tensor:
        """Draw from softmax(out / tau): Boltzmann's distribution (the paper, section 3.4, 3)."""
        return _gumbel_argmax(out / tau, rng)

    def random(self, n: int, rng: np.random.Generator) -> Array:
        return rng.integers(self.n, size=n)

    def compare(self, ours: Tensor, theirs: Tensor) -> Mapping[str, Tensor]:
        """Return the agreement, and the regret: max_a q(a) - q(our action), of the teacher's q.

        An action that the teacher rules out by -inf counts as the worst of the others.
        """
        action = ours.argmax(dim=1)
        best, its_action = theirs.max(dim=1)
        worst = theirs.masked_fill(theirs.isinf(), torch.inf).min(dim=1).values
        chosen = theirs.gather(1, action[:, None]).squeeze(1)
        return {
            "agreement": (action == its_action).float(),
            "regret": best - torch.maximum(chosen, worst),
        }

    def fits(self, space: gymnasium.Space[Any]) -> bool:
        return isinstance(space, spaces.Discrete) and int(space.n) == self.n


@dataclass(frozen=True)
class Categorical(_Plain):
    """The logits of ``n`` actions: pi(a|s) = softmax(out)_a."""

    n: Count
    discrete = True

    @property
    def size(self) -> int:
        return self.n

    def choices(self, out: Tensor) -> tuple[Tensor, ...]:
        return (out,)

    def mode(self, out: Tensor) -> Tensor:
        return out.argmax(dim=1)

    def sample(self, out: Tensor, rng: np.random.Generator, tau: float = 1.0) -> Tensor:
        return _gumbel_argmax(out / tau, rng)

    def random(self, n: int, rng: np.random.Generator) -> Array:
        return rng.integers(self.n, size=n)

    def compare(self, ours: Tensor, theirs: Tensor) -> Mapping[str, Tensor]:
        """Return the agreement, and p(our action) / max_a p(a), of the teacher's p.

        At 1 our action is as probable to the teacher as its own.
        """
        action = ours.argmax(dim=1)
        best, its_action = theirs.max(dim=1)
        return {
            "agreement": (action == its_action).float(),
            "relative_probability": (theirs.gather(1, action[:, None]).squeeze(1) - best).exp(),
        }

    def fits(self, space: gymnasium.Space[Any]) -> bool:
        return isinstance(space, spaces.Discrete) and int(space.n) == self.n


@dataclass(frozen=True)
class MultiCategorical(_Plain):
    """Several independent choices: the logits of each, one after the other (MultiDiscrete)."""

    sizes: Annotated[tuple[Count, ...], Meta(min_length=1)]
    discrete = True

    @property
    def size(self) -> int:
        return sum(self.sizes)

    def choices(self, out: Tensor) -> tuple[Tensor, ...]:
        return torch.split(out, list(self.sizes), dim=1)

    def mode(self, out: Tensor) -> Tensor:
        return torch.stack([part.argmax(dim=1) for part in self.choices(out)], dim=1)

    def sample(self, out: Tensor, rng: np.random.Generator, tau: float = 1.0) -> Tensor:
        return torch.stack([_gumbel_argmax(part / tau, rng) for part in self.choices(out)], dim=1)

    def random(self, n: int, rng: np.random.Generator) -> Array:
        return rng.integers(self.sizes, size=(n, len(self.sizes)))

    def compare(self, ours: Tensor, theirs: Tensor) -> Mapping[str, Tensor]:
        """Return the share of choices that are the same."""
        return {"agreement": (self.mode(ours) == self.mode(theirs)).float().mean(dim=1)}

    def fits(self, space: gymnasium.Space[Any]) -> bool:
        return isinstance(space, spaces.MultiDiscrete) and tuple(space.nvec.ravel()) == self.sizes


@dataclass(frozen=True)
class Bernoulli(_Plain):
    """``n`` independent yes or no: P(a_i = 1) = sigmoid(out_i) (MultiBinary)."""

    n: Count
    discrete = True

    @property
    def size(self) -> int:
        return self.n

    def choices(self, out: Tensor) -> tuple[Tensor, ...]:
        """Return the logits of no and yes, 0 and out_i, of each answer."""
        return tuple(torch.stack([torch.zeros_like(x), x], dim=1) for x in out.unbind(dim=1))

    def mode(self, out: Tensor) -> Tensor:
        return (out > 0.0).long()

    def sample(self, out: Tensor, rng: np.random.Generator, tau: float = 1.0) -> Tensor:
        probability = (out / tau).sigmoid().detach().cpu().numpy()
        return torch.from_numpy((rng.random(probability.shape) < probability).astype(np.int64))

    def random(self, n: int, rng: np.random.Generator) -> Array:
        return rng.integers(2, size=(n, self.n))

    def compare(self, ours: Tensor, theirs: Tensor) -> Mapping[str, Tensor]:
        """Return the share of answers that are the same."""
        return {"agreement": ((ours > 0.0) == (theirs > 0.0)).float().mean(dim=1)}

    def fits(self, space: gymnasium.Space[Any]) -> bool:
        return isinstance(space, spaces.MultiBinary) and int(np.prod(space.shape)) == self.n


@dataclass(frozen=True)
class _Continuous(_Plain, ABC):
    """``n`` numbers in units of their range: -1 is the lower bound of the action, 1 the upper.

    Where an action has no bounds (``bounded`` is false) they are its own numbers.
    """

    n: Count
    bounded: bool = field(default=True, kw_only=True)

    discrete = False

    def random(self, n: int, rng: np.random.Generator) -> Array:
        return rng.uniform(-1.0, 1.0, (n, self.n)).astype(np.float32)

    def compare(self, ours: Tensor, theirs: Tensor) -> Mapping[str, Tensor]:
        """Return |a - a'| / 2, the mean error of an action in units of its range, and 1 less it."""
        error = (self.mode(ours) - self.mode(theirs)).abs().mean(dim=1) / 2.0
        return {"agreement": (1.0 - error).clamp(min=0.0), "action_error": error}

    def choices(self, out: Tensor) -> tuple[Tensor, ...]:
        """A continuous action has none."""
        return ()

    @abstractmethod
    def mode(self, out: Tensor) -> Tensor: ...

    def _held(self, action: Tensor) -> Tensor:
        return action.clamp(-1.0, 1.0) if self.bounded else action

    def fits(self, space: gymnasium.Space[Any]) -> bool:
        return isinstance(space, spaces.Box) and int(np.prod(space.shape)) == self.n


@dataclass(frozen=True)
class Gaussian(_Continuous):
    """N(mean, sd^2) per dimension, ``out = [mean, log sd]``; ``squashed`` by tanh (as SAC's).

    Actions are in units of their range, [-1, 1]; what lies outside is clipped when it is done.
    """

    squashed: bool = False

    @property
    def size(self) -> int:
        return 2 * self.n

    def parts(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log sd, ``[N,n]`` each, before any squashing."""
        mean, log_sd = out.chunk(2, dim=1)
        return mean, log_sd

    def mode(self, out: Tensor) -> Tensor:
        mean, _ = self.parts(out)
        return mean.tanh() if self.squashed else self._held(mean)

    def sample(self, out: Tensor, rng: np.random.Generator, tau: float = 1.0) -> Tensor:
        mean, log_sd = self.parts(out)
        draw = torch.from_numpy(rng.standard_normal(tuple(mean.shape)).astype(np.float32))
        action = mean + math.sqrt(tau) * log_sd.exp() * draw.to(mean.device)
        return action.tanh() if self.squashed else self._held(action)


@dataclass(frozen=True)
class Point(_Continuous):
    """The action itself, in units of its range: a deterministic policy (DDPG, TD3)."""

    @property
    def size(self) -> int:
        return self.n

    def mode(self, out: Tensor) -> Tensor:
        return self._held(out)

    def sample(self, out: Tensor, rng: np.random.Generator, tau: float = 1.0) -> Tensor:
        """Return the action: a deterministic policy has nothing to draw."""
        return self.mode(out)


HEADS: dict[str, Callable[..., Head]] = {
    "q": QValues,
    "categorical": Categorical,
    "multi-categorical": MultiCategorical,
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "point": Point,
}
"""Name -> head, as a file names it."""

LARGEST = 2**20
"""The most actions, or choices of one action, that a file may claim."""


def translate(label: Tensor, spoken: Head, wanted: Head, *, tau: float = 1.0) -> Tensor:
    """Return a label ``[N,L]`` of one head as another head has it.

    Q-values become logits as q / tau; a distribution over continuous actions becomes the action
    meant. Raises UserError where there is no such reading.
    """
    if spoken == wanted:
        return label
    if isinstance(spoken, QValues) and wanted == Categorical(spoken.n):
        return label / tau
    if isinstance(spoken, _Continuous) and isinstance(wanted, Point) and wanted.n == spoken.n:
        return spoken.mode(label)
    raise UserError(f"what {spoken} says cannot be read as {wanted}")


def common_head(heads: Sequence[Head]) -> Head | None:
    """Return the head that all of ``heads`` can be translated to; None if there is none."""
    first = heads[0]
    if all(head == first for head in heads):
        return first
    if all(isinstance(head, QValues | Categorical) and head.size == first.size for head in heads):
        return Categorical(first.size)
    if isinstance(first, _Continuous) and all(
        isinstance(head, _Continuous) and head.n == first.n for head in heads
    ):
        return Point(first.n, bounded=first.bounded)
    return None


def describe_head(head: Head) -> dict[str, Any]:
    """Return a head as plain data, ``{"kind": "q", "n": 6, …}``; ``parse_head`` reads it.

    Of one from outside of the package it says the module too, for the person who reads it back.
    """
    kind = next((name for name, of in HEADS.items() if of is type(head)), None)
    if kind is None:
        raise UserError(f"head {head!r} is in no table, so that a file cannot name it")
    values = asdict(head)  # type: ignore[call-overload]
    about = {"kind": kind, **{k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}}
    if type(head).__module__ != __name__:
        about["module"] = f"{type(head).__module__}:{type(head).__qualname__}"
    return about


def parse_head(about: Mapping[str, Any]) -> Head:
    """Return the head that ``about`` describes; raise UserError for anything else."""
    values = dict(about)
    kind, module = values.pop("kind", None), values.pop("module", None)
    if not isinstance(kind, str) or kind not in HEADS:
        if isinstance(module, str) and is_place(module):
            raise UnknownHeadError(
                f"head {kind!r} is one of your own: import {module.partition(':')[0]} first, or "
                f"name it behind the file, as in +head:{module}"
            )
        raise choose_from("head", str(kind), HEADS)
    build = HEADS[kind]
    known = {field.name for field in fields(build)}  # type: ignore[arg-type]
    if unknown := set(values) - known:
        raise UserError(
            f"head {kind}: unknown key {sorted(unknown)[0]!r}, expected {sorted(known)}"
        )
    try:
        head: Head = msgspec.convert(values, build)
    except ValueError as error:
        raise UserError(f"head {kind} is damaged: {error}") from None
    sizes = values.get("sizes", [values.get("n", 1)])
    if not sizes or not all(0 < n <= LARGEST for n in sizes):
        raise UserError(f"head {kind} is of size {sizes}, expected from 1 to {LARGEST:,}")
    if not 0.0 < values.get("temperature", 1.0) < math.inf:
        raise UserError(
            f"head {kind} has the temperature {values['temperature']}, expected above 0"
        )
    return head


def check_actions(head: Head, space: gymnasium.Space[Any]) -> None:
    """Raise MisfitError unless what ``head`` means are actions of ``space``."""
    if not head.fits(space):
        raise MisfitError(_acts(head), _takes(space))


def _acts(head: Head) -> str:
    if isinstance(head, QValues | Categorical):
        return f"chooses among {head.n:,} actions"
    if isinstance(head, MultiCategorical):
        return f"makes choices of {_listed(head.sizes)}"
    if isinstance(head, Bernoulli):
        return f"says {head.n:,} times yes or no"
    if isinstance(head, _Continuous):
        return f"acts by {counted(head.n, 'number')}"
    return f"acts as {head}"


def _takes(space: gymnasium.Space[Any]) -> str:
    if isinstance(space, spaces.Discrete):
        return f"has {counted(int(space.n), 'action')}"
    if isinstance(space, spaces.MultiDiscrete):
        return f"takes choices of {_listed(space.nvec.ravel())}"
    if isinstance(space, spaces.MultiBinary):
        return f"takes {int(np.prod(space.shape)):,} times yes or no"
    if isinstance(space, spaces.Box):
        return f"takes {counted(int(np.prod(space.shape)), 'number')}"
    return f"takes {space}"


def _listed(sizes: Iterable[int]) -> str:
    return ", ".join(map(str, sizes))


def head_for(space: gymnasium.Space[Any]) -> Head:
    """Return the usual head for the actions of ``space``.

    Raises UserError for a space that no head fits.
    """
    if isinstance(space, spaces.Discrete):
        return Categorical(int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return MultiCategorical(tuple(int(n) for n in space.nvec.ravel()))
    if isinstance(space, spaces.MultiBinary):
        return Bernoulli(int(np.prod(space.shape)))
    if isinstance(space, spaces.Box) and space.low.size:
        bounded = bool(np.isfinite(space.low).all() and np.isfinite(space.high).all())
        return Point(int(np.prod(space.shape)), bounded=bounded)
    raise UserError(
        f"actions {space}: expected Discrete, MultiDiscrete, MultiBinary or a Box with bounds"
    )


def to_space(action: Array, space: gymnasium.Space[Any]) -> Array:
    """Return ``action[N,*A]`` of a head as what environments of ``space`` take.

    A Discrete or MultiDiscrete space may start anywhere; a Box has its bounds at -1 and 1, and
    where it lacks one, at -infinity or infinity, its numbers are as they are, up to the other.
    """
    if isinstance(space, spaces.Discrete):
        return action + int(space.start)
    shaped = action.reshape(len(action), *(space.shape or ()))
    if isinstance(space, spaces.MultiDiscrete):
        shaped = shaped + space.start
    if isinstance(space, spaces.Box):
        bounded = np.isfinite(space.low) & np.isfinite(space.high)
        low, high = (np.where(bounded, side, 0.0) for side in (space.low, space.high))
        scaled = low + (np.clip(shaped, -1.0, 1.0) + 1.0) / 2.0 * (high - low)
        # Rounding may go beyond a bound by the last bit.
        shaped = np.clip(np.where(bounded, scaled, shaped), space.low, space.high)
        if space.dtype.kind in "iu":
            shaped = np.rint(shaped)
    return shaped.astype(space.dtype)

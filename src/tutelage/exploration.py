"""How a policy's numbers become actions: ``(head, out[N,L], env_steps, rng) -> action[N,*A]``.

Each strategy is one function of a scheduled parameter (epsilon, tau or p) and its entry in the
table, which is what the command line offers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from tutelage import specs
from tutelage.errors import UserError
from tutelage.heads import Head
from tutelage.schedules import constant
from tutelage.specs import Between, ProbabilitySchedule
from tutelage.types import Array, Schedule

Select = Callable[[Head, Tensor, int, np.random.Generator], Array]
"""``(head, out[N,L], env_steps, rng) -> action[N,*A]``."""

DropoutSchedule = Annotated[Schedule, Between(0.0, 0.99)]


@dataclass(frozen=True)
class Exploration:
    """A way to act while learning."""

    select: Select
    hidden_dropout: Schedule = constant(0.0)  # noqa: RUF009 (a pure function, shared safely)
    """Probability over env steps that a hidden unit is dropped, acting and learning alike."""
    shown: Mapping[str, Schedule] = field(default_factory=dict)
    """What a run's metrics show of it."""
    discrete: bool = False
    """Whether it is for heads that choose from finitely many actions only."""
    continuous: bool = False
    """Whether it is for the others only."""


def _mode(head: Head, out: Tensor, env_steps: int, rng: np.random.Generator) -> Array:
    action: Array = head.mode(out).numpy()
    return action


def greedy() -> Exploration:
    """Act by the mode, a = argmax_a q(s, a) (the paper, section 3.4, 1)."""
    return Exploration(_mode)


def epsilon_greedy(epsilon: ProbabilitySchedule) -> Exploration:
    """Act greedily, with probability epsilon uniformly at random (the paper, section 3.4, 2)."""

    def select(head: Head, out: Tensor, env_steps: int, rng: np.random.Generator) -> Array:
        random, best = head.random(len(out), rng), _mode(head, out, env_steps, rng)
        explores = rng.random(len(out)) < epsilon(env_steps)
        return np.where(explores.reshape(-1, *[1] * (best.ndim - 1)), random, best)

    return Exploration(select, shown={"epsilon": epsilon})


def boltzmann(tau: Annotated[Schedule, Between(1e-6, 1e6)]) -> Exploration:
    """Draw a from pi(a|s) = exp(q_a / tau) / sum_b exp(q_b / tau) (the paper, section 3.4, 3)."""

    def select(head: Head, out: Tensor, env_steps: int, rng: np.random.Generator) -> Array:
        action: Array = head.sample(out, rng, tau(env_steps)).numpy()
        return action

    return Exploration(select, shown={"tau": tau})


def dropout_q(p: DropoutSchedule) -> Exploration:
    """Act by a = argmax Dropout(q): each output is 0 with probability p, else q / (1 - p).

    Exactly the paper's section 3.4, 4. Where Q-values are negative a dropped action wins; the
    form the literature would use is ``mc_dropout``.
    """

    def select(head: Head, out: Tensor, env_steps: int, rng: np.random.Generator) -> Array:
        q, now = out.numpy(), p(env_steps)
        kept = rng.random(q.shape) >= now
        return _mode(head, torch.from_numpy(np.where(kept, q / (1.0 - now), 0.0)), env_steps, rng)

    return Exploration(select, shown={"dropout": p}, discrete=True)


def mc_dropout(p: DropoutSchedule) -> Exploration:
    """Act greedily on one draw of a network with dropout on its hidden layer.

    A draw approximates a sample of the posterior over Q-functions (Gal & Ghahramani 2016), and
    acting on it is Thompson sampling; the network learns with the same dropout.
    """
    return Exploration(_mode, hidden_dropout=p, shown={"dropout": p})


def sample() -> Exploration:
    """Act by a draw of the policy itself, a ~ pi(.|s)."""

    def select(head: Head, out: Tensor, env_steps: int, rng: np.random.Generator) -> Array:
        action: Array = head.sample(out, rng).numpy()
        return action

    return Exploration(select)


def gaussian_noise(sigma: Annotated[Schedule, Between(0.0, 10.0)]) -> Exploration:
    """Act by mode + N(0, sigma^2), in units of half the action's range, as DDPG and TD3 do."""

    def select(head: Head, out: Tensor, env_steps: int, rng: np.random.Generator) -> Array:
        mode = _mode(head, out, env_steps, rng)
        noisy = mode + sigma(env_steps) * rng.standard_normal(mode.shape)
        return np.clip(noisy, -1.0, 1.0).astype(mode.dtype)

    return Exploration(select, shown={"sigma": sigma}, continuous=True)


EXPLORATIONS: dict[str, Callable[..., Exploration]] = {
    "greedy": greedy,
    "epsilon": epsilon_greedy,
    "boltzmann": boltzmann,
    "dropout-q": dropout_q,
    "mc-dropout": mc_dropout,
    "sample": sample,
    "noise": gaussian_noise,
}


def parse_exploration(text: str, head: Head) -> Exploration:
    """Return the strategy that ``text`` spells: ``greedy``, ``epsilon:1:0.05:20000``.

    Raises UserError for an unknown name, a missing or needless parameter, one out of range, and a
    strategy that does not fit ``head``.
    """
    exploration = specs.build("exploration", text, EXPLORATIONS)
    if (exploration.discrete and not head.discrete) or (exploration.continuous and head.discrete):
        kind = "discrete" if exploration.discrete else "continuous"
        raise UserError(
            f"exploration {text!r} is for {kind} actions, not for a {type(head).__name__} head"
        )
    return exploration

"""How a policy turns Q-values into actions: ``(q[N,A], env_steps, rng) -> action[N]``.

Each strategy is one function of a scheduled parameter (epsilon, tau or p) and its entry in the
table, which is what the command line offers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tutelage.errors import UserError, look_up
from tutelage.schedules import constant, parse_schedule
from tutelage.types import Schedule

Q = npt.NDArray[np.float32]
Action = npt.NDArray[np.int64]
Select = Callable[[Q, int, np.random.Generator], Action]
"""``(q[N,A], env_steps, rng) -> action[N]``."""


@dataclass(frozen=True)
class Exploration:
    """A way to act while learning."""

    select: Select
    """Q-values to actions."""
    hidden_dropout: Schedule = constant(0.0)  # noqa: RUF009 (a pure function, shared safely)
    """Probability over env steps that a hidden unit is dropped, acting and learning alike."""


def _best(q: npt.NDArray[np.floating]) -> Action:
    best: Action = q.argmax(axis=1)
    return best


def greedy(_: Schedule) -> Exploration:
    """Act by a = argmax_a q(s, a) (the paper, section 3.4, 1)."""

    def select(q: Q, env_steps: int, rng: np.random.Generator) -> Action:
        return _best(q)

    return Exploration(select)


def epsilon_greedy(epsilon: Schedule) -> Exploration:
    """Act greedily, with probability epsilon uniformly at random (the paper, section 3.4, 2)."""

    def select(q: Q, env_steps: int, rng: np.random.Generator) -> Action:
        random = rng.integers(q.shape[1], size=len(q))
        return np.where(rng.random(len(q)) < epsilon(env_steps), random, _best(q))

    return Exploration(select)


def boltzmann(temperature: Schedule) -> Exploration:
    """Draw a from pi(a|s) = exp(q_a / tau) / sum_b exp(q_b / tau) (the paper, section 3.4, 3).

    Drawn by the Gumbel-max trick, which cannot overflow.
    """

    def select(q: Q, env_steps: int, rng: np.random.Generator) -> Action:
        return _best(q / temperature(env_steps) + rng.gumbel(size=q.shape))

    return Exploration(select)


def dropout_q(probability: Schedule) -> Exploration:
    """Act by a = argmax Dropout(q): each output is 0 with probability p, else q / (1 - p).

    Exactly the paper's section 3.4, 4. Where Q-values are negative a dropped action wins; the
    form the literature would use is ``mc_dropout``.
    """

    def select(q: Q, env_steps: int, rng: np.random.Generator) -> Action:
        p = probability(env_steps)
        kept = rng.random(q.shape) >= p
        return _best(np.where(kept, q / (1.0 - p), 0.0))

    return Exploration(select)


def mc_dropout(probability: Schedule) -> Exploration:
    """Act greedily on one draw of a network with dropout on its hidden layer.

    A draw approximates a sample of the posterior over Q-functions (Gal & Ghahramani 2016), and
    acting on it is Thompson sampling; the network learns with the same dropout.
    """
    return Exploration(greedy(probability).select, hidden_dropout=probability)


EXPLORATIONS: dict[str, Callable[[Schedule], Exploration]] = {
    "greedy": greedy,
    "epsilon": epsilon_greedy,
    "boltzmann": boltzmann,
    "dropout-q": dropout_q,
    "mc-dropout": mc_dropout,
}
RANGES = {
    "epsilon": (0.0, 1.0),
    "boltzmann": (1e-6, 1e6),
    "dropout-q": (0.0, 0.99),
    "mc-dropout": (0.0, 0.99),
}
"""What the parameter may be; a strategy that is not here takes none."""


def parse_exploration(text: str) -> Exploration:
    """Return the strategy that ``text`` spells: ``greedy``, ``epsilon:1:0.05:20000``.

    Raises UserError for an unknown name, a missing parameter, or one out of range.
    """
    name, _, parameter = text.partition(":")
    strategy = look_up("exploration", name, EXPLORATIONS)
    if parameter and name not in RANGES:
        raise UserError(f"exploration {text!r}: {name} takes no parameter")
    if name in RANGES and not parameter:
        raise UserError(f"exploration {text!r}: {name} needs a value, as in {name}:0.05")
    low, high = RANGES.get(name, (0.0, 0.0))
    try:
        return strategy(parse_schedule(parameter or "0", low=low, high=high))
    except UserError as error:
        raise UserError(f"exploration {text!r}: {error}") from None

"""How a policy turns Q-values into actions: ``(q[N,A], rng) -> action[N]``.

Each strategy is made by one function of its parameters; a schedule gives them their value at
``env_steps``. The table at the end is what the command line offers.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tutelage.types import Schedule

Q = npt.NDArray[np.float32]
Action = npt.NDArray[np.int64]
Explore = Callable[[Q, int, np.random.Generator], Action]
"""``(q[N,A], env_steps, rng) -> action[N]``."""


def greedy(_: Schedule) -> Explore:
    """Act by a = argmax_a q(s, a) (the paper, section 3.4, 1)."""

    def explore(q: Q, env_steps: int, rng: np.random.Generator) -> Action:
        return q.argmax(axis=1)

    return explore


def epsilon_greedy(epsilon: Schedule) -> Explore:
    """Act greedily, with probability epsilon uniformly at random (the paper, section 3.4, 2)."""

    def explore(q: Q, env_steps: int, rng: np.random.Generator) -> Action:
        random = rng.integers(q.shape[1], size=len(q))
        return np.where(rng.random(len(q)) < epsilon(env_steps), random, q.argmax(axis=1))

    return explore


def boltzmann(temperature: Schedule) -> Explore:
    """Draw a from pi(a|s) = exp(q_a / tau) / sum_b exp(q_b / tau) (the paper, section 3.4, 3).

    Drawn by the Gumbel-max trick, which cannot overflow.
    """

    def explore(q: Q, env_steps: int, rng: np.random.Generator) -> Action:
        return (q / temperature(env_steps) + rng.gumbel(size=q.shape)).argmax(axis=1)

    return explore


def dropout_q(probability: Schedule) -> Explore:
    """Act by a = argmax Dropout(q): each output set to 0 with probability p, others scaled by
    1 / (1 - p), exactly as the paper's section 3.4, 4 has it.

    Where Q-values are negative a dropped action *wins*; the form the literature would use drops
    hidden units (``mc-dropout``, a property of the network that acts).
    """

    def explore(q: Q, env_steps: int, rng: np.random.Generator) -> Action:
        p = probability(env_steps)
        kept = rng.random(q.shape) >= p
        return np.where(kept, q / (1.0 - p), 0.0).argmax(axis=1)

    return explore


EXPLORATIONS: dict[str, Callable[[Schedule], Explore]] = {
    "greedy": greedy,
    "epsilon": epsilon_greedy,
    "boltzmann": boltzmann,
    "dropout-q": dropout_q,
}
"""Name -> strategy of one scheduled parameter (epsilon, tau or p; greedy ignores it)."""

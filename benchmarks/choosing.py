"""What a choice of teacher costs, without a context and per state with one."""

import timeit

import numpy as np

from tutelage.selectors import SELECTORS, build_selector, is_contextual
from tutelage.types import Feedback, Selector

STATES = 16
CONTEXTUAL = [name for name in SELECTORS if is_contextual(name)]
PLAIN = [name for name in SELECTORS if not is_contextual(name)]
CONTEXTS = ((2, 4), (4, 8), (12, 8), (2, 128))
"""Numbers of teachers and of context features."""


def measure() -> dict[str, dict[str, float]]:
    """Return microseconds per choice of 12 teachers, and per state in batches of 16.

    Without a context the distribution is derived once after each update, so that a choice is
    measured by itself and together with the update before it.
    """
    rng = np.random.default_rng(0)
    return {
        "no_context_12_teachers_us": {
            name: _cost(build_selector(name, num_arms=12, rng=rng), dim=0) for name in PLAIN
        },
        "no_context_12_teachers_with_update_us": {
            name: _cost_with_update(build_selector(name, num_arms=12, rng=rng)) for name in PLAIN
        },
        **{
            f"per_state_{arms}_teachers_{dim}_features_us": {
                name: _cost(build_selector(name, num_arms=arms, rng=rng, context_dim=dim), dim=dim)
                / STATES
                for name in CONTEXTUAL
            }
            for arms, dim in CONTEXTS
        },
    }


def _cost(selector: Selector, dim: int) -> float:
    """Return the least of seven means over 200 choices, after 100 rounds of learning."""
    rng = np.random.default_rng(1)
    context = rng.normal(size=(STATES, dim))
    for _ in range(100):
        choice = selector.choose(context)
        rows = slice(None) if dim else slice(1)
        reward = rng.random(STATES)
        selector.update(
            Feedback(context[rows], choice.arm[rows], reward[rows], choice.probability[rows])
        )
    return min(timeit.repeat(lambda: selector.choose(context), number=200, repeat=7)) / 200 * 1e6


def _cost_with_update(selector: Selector) -> float:
    """Return the least of seven means over 200 choices, each with the update that it leads to."""
    rng = np.random.default_rng(1)
    nothing = np.zeros((1, 0))

    def once() -> None:
        choice = selector.choose(nothing)
        selector.update(Feedback(nothing, choice.arm, rng.random(1), choice.probability))

    for _ in range(100):
        once()
    return min(timeit.repeat(once, number=200, repeat=7)) / 200 * 1e6

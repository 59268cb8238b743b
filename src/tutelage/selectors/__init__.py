"""Which of several teachers is chosen: bandits and contextual bandits, by name.

A selector of your own is ``MODULE:NAME``, a class or a function that takes ``(*, num_arms, rng)``
and, if it chooses by context, ``context_dim``; its other parameters are its options.
"""

import inspect
from collections.abc import Callable

from tutelage.errors import UserError
from tutelage.selectors import bandits, contextual
from tutelage.selectors.base import Generator
from tutelage.selectors.vw import VowpalWabbit
from tutelage.specs import build, resolve
from tutelage.types import Selector

SELECTORS: dict[str, Callable[..., Selector]] = {
    "random": bandits.Random,
    "best-first": bandits.BestFirst,
    "epsilon-greedy": bandits.epsilon_greedy_bandit,
    "vdbe": bandits.VDBE,
    "ucb1": bandits.ucb1,
    "ucb1-tuned": bandits.ucb1_tuned,
    "bayes-ucb-beta": bandits.bayes_ucb_beta,
    "bayes-ucb-gaussian": bandits.bayes_ucb_gaussian,
    "thompson-beta": bandits.thompson_beta,
    "thompson-gaussian": bandits.thompson_gaussian,
    "discounted-ucb": bandits.discounted_ucb,
    "sliding-window-ucb": bandits.sliding_window_ucb,
    "exp3": bandits.exp3,
    "exp3-s": bandits.exp3_s,
    "direct": contextual.DirectMethod,
    "importance-weighted": contextual.ImportanceWeighted,
    "doubly-robust": contextual.DoublyRobust,
    "linucb": contextual.LinUCB,
    "linear-thompson": contextual.LinearThompson,
    "vw": VowpalWabbit,
}
"""Name -> constructor."""

_CONTRACT = ("left", "tried", "choose", "exploit", "probabilities", "update", "drop")


def is_contextual(text: str) -> bool:
    """Return whether the selector that ``text`` names chooses by context.

    Raises UserError for one that there is not.
    """
    entry, _ = resolve("selector", text, SELECTORS)
    try:
        return "context_dim" in inspect.signature(entry).parameters
    except (TypeError, ValueError):  # what is no constructor is refused when it is built
        return False


def build_selector(text: str, *, num_arms: int, rng: Generator, context_dim: int = 0) -> Selector:
    """Return the selector that ``text`` spells: ``NAME`` or ``NAME:OPTION=VALUE,…``.

    ``context_dim`` is for those that choose by context. Raises UserError for an unknown name or
    option, a value that does not fit and a name from outside that makes no selector.
    """
    given = {"context_dim": context_dim} if is_contextual(text) else {}
    made = build("selector", text, SELECTORS, num_arms=num_arms, rng=rng, **given)
    if missing := [name for name in _CONTRACT if not hasattr(made, name)]:
        raise UserError(f"selector {text!r} makes a {type(made).__name__} without {missing[0]!r}")
    return made

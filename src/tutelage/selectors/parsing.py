"""Selectors by name: what ``bandits`` and ``contextual`` offer on the command line."""

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any, get_type_hints

from tutelage.errors import UserError, look_up
from tutelage.schedules import parse_schedule
from tutelage.selectors.bandits import SELECTORS
from tutelage.selectors.base import DistributionSelector
from tutelage.selectors.contextual import CONTEXTUAL, EXPLORATIONS, Explore
from tutelage.types import Schedule


def _explore(text: str) -> Explore:
    return look_up("exploration of a selector", text, EXPLORATIONS)()


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(text)
    return value


# The only schedules of selectors are probabilities.
_READ: dict[Any, Callable[[str], Any]] = {
    int: int,
    float: _finite,
    str: str,
    Schedule: partial(parse_schedule, low=0.0, high=1.0),
    Explore: _explore,
}


def parse_selector(text: str) -> Callable[..., DistributionSelector]:
    """Return the constructor that ``text`` spells: ``NAME`` or ``NAME:OPTION=VALUE,OPTION=VALUE``.

    It takes ``num_arms`` and ``rng``, and ``context_dim`` where the name is in ``CONTEXTUAL``.
    Raises UserError for an unknown name or option and for a value of another type.
    """
    name, _, rest = text.partition(":")
    build = look_up("selector", name, {**SELECTORS, **CONTEXTUAL})
    hints = get_type_hints(build.__init__ if inspect.isclass(build) else build)
    readers = {option: _READ[hint] for option, hint in hints.items() if hint in _READ}
    readers = {o: read for o, read in readers.items() if o not in ("num_arms", "context_dim")}
    options: dict[str, Any] = {}
    for word in rest.split(",") if rest else ():
        option, equals, value = word.partition("=")
        if option not in readers or not equals:
            expected = ", ".join(f"{o}=…" for o in sorted(readers)) or "none"
            raise UserError(f"selector {name}: unknown option {word!r}, expected {expected}")
        try:
            options[option] = readers[option](value)
        except ValueError:
            number = "a whole number" if readers[option] is int else "a number"
            raise UserError(f"selector {name}: {option} is {value!r}, expected {number}") from None

    def construct(**given: Any) -> DistributionSelector:
        return build(**given, **options)

    return construct


def is_contextual(text: str) -> bool:
    """Return whether the selector that ``text`` spells chooses by features of a state."""
    return text.partition(":")[0] in CONTEXTUAL

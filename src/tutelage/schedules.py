"""Numbers that change with env steps or updates, written ``0.05`` or ``1:0.02:80000``."""

import math

from tutelage.errors import UserError
from tutelage.types import Schedule


def constant(value: float) -> Schedule:
    """Return ``value`` always."""
    return lambda step: value


def linear(start: float, end: float, over: int) -> Schedule:
    """Go from ``start`` to ``end`` in a straight line over ``over`` steps, then stay."""
    return lambda step: start + (end - start) * min(max(step / over, 0.0), 1.0)


def parse_schedule(text: str) -> Schedule:
    """Return the schedule that ``text`` spells: ``VALUE`` or ``START:END:OVER``.

    >>> parse_schedule("1:0.02:80000")(40000)
    0.51

    Raises UserError for anything else.
    """
    try:
        numbers = [float(word) for word in text.split(":")]
    except ValueError:
        numbers = []
    finite = all(map(math.isfinite, numbers))
    if finite and len(numbers) == 1:
        return constant(numbers[0])
    if finite and len(numbers) == 3 and numbers[2] >= 1:
        return linear(numbers[0], numbers[1], int(numbers[2]))
    raise UserError(
        f"unknown schedule {text!r}: expected a number (0.05) or START:END:STEPS (1:0.02:80000)"
    )
